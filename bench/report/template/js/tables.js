// Tables that are in the page as HTML: sorted by a click on a header, and with a choice of columns if there are many.

import { html } from "./elements.js";

const MOST_COLUMNS = 9;

/**
 * Return what a cell is sorted by: the number that it carries, or its text.
 * @param {HTMLTableRowElement} row
 * @param {number} column
 * @returns {number | string}
 */
function valueOf(row, column) {
  const cell = row.cells[column];
  if (!cell) return "";
  return cell.dataset.value === undefined ? (cell.textContent || "").trim() : Number(cell.dataset.value);
}

/**
 * Compare two values; words, such as "not measured", are below numbers in both directions.
 * @param {number | string} a
 * @param {number | string} b
 * @param {boolean} down
 */
function compare(a, b, down) {
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  const order = typeof a === "number" ? a - Number(b) : a.localeCompare(String(b));
  return down ? -order : order;
}

/**
 * Make the headers of a table sort it, and offer a choice of columns if there are more than nine.
 * @param {HTMLTableElement} table
 */
export function prepare(table) {
  const head = table.tHead && table.tHead.rows[0];
  if (!head) return;
  [...head.cells].forEach((cell, column) => {
    const title = cell.textContent || "";
    cell.replaceChildren(html("button", { type: "button", onclick: () => sort(table, column, cell) }, title));
  });
  if (head.cells.length > MOST_COLUMNS) pick(table, [...head.cells].map((cell) => cell.textContent || ""));
}

/**
 * @param {HTMLTableElement} table
 * @param {number} column
 * @param {HTMLTableCellElement} cell
 */
function sort(table, column, cell) {
  const down = cell.getAttribute("aria-sort") === "ascending";
  for (const other of /** @type {HTMLTableSectionElement} */ (table.tHead).rows[0].cells) other.removeAttribute("aria-sort");
  cell.setAttribute("aria-sort", down ? "descending" : "ascending");
  const rows = [...table.tBodies[0].rows].map((row) => ({ value: valueOf(row, column), row }));
  rows.sort((a, b) => compare(a.value, b.value, down));
  table.tBodies[0].append(...rows.map((one) => one.row));
}

/**
 * @param {HTMLTableElement} table
 * @param {string[]} titles
 */
function pick(table, titles) {
  const show = (/** @type {number} */ column, /** @type {boolean} */ visible) => { for (const row of table.rows) if (row.cells[column]) row.cells[column].hidden = !visible; };
  const boxes = titles.map((title, column) => {
    const box = /** @type {HTMLInputElement} */ (html("input", { type: "checkbox", checked: column < MOST_COLUMNS, onchange: () => show(column, box.checked) }));
    show(column, column < MOST_COLUMNS);
    return html("label", {}, box, ` ${title} `);
  });
  const place = table.closest(".wide") || table;
  place.before(html("details", { class: "columns" }, html("summary", {}, `Columns (${MOST_COLUMNS} of ${titles.length} shown)`), ...boxes));
}
