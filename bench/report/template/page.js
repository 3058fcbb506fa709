"use strict";
// Text is inserted through textContent only: names of classes and files may contain markup.

function sortable(table) {
  const head = table.tHead && table.tHead.rows[0];
  if (!head || table.closest(".matrix")) return;
  [...head.cells].forEach((cell, column) => {
    const button = document.createElement("button");
    button.textContent = cell.textContent;
    cell.replaceChildren(button);
    button.addEventListener("click", () => sortBy(table, column, cell));
  });
}

function valueOf(row, column) {
  const text = (row.cells[column] ? row.cells[column].textContent : "").trim();
  // A cell may start with a sign or a mark, and continue with an interval: its first number counts.
  const number = parseFloat(text.replace(/^[<~+\s]+/, "").replace(/(\d),(?=\d{3})/g, "$1"));
  return /^[<~+\-\s]*[\d.]/.test(text) && !Number.isNaN(number) ? number : text;
}

function compare(a, b) {
  const numbers = [typeof a === "number", typeof b === "number"];
  if (numbers[0] !== numbers[1]) return numbers[0] ? -1 : 1;  // words, such as "not measured", below numbers
  return numbers[0] ? a - b : a.localeCompare(b);
}

function sortBy(table, column, cell) {
  const down = cell.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  cell.setAttribute("aria-sort", down ? "descending" : "ascending");
  const rows = [...table.tBodies[0].rows].map((row) => [valueOf(row, column), row]);
  rows.sort((a, b) => {
    // Reversed only within a type, so that words stay below numbers in both directions.
    const order = compare(a[0], b[0]);
    return down && typeof a[0] === typeof b[0] ? -order : order;
  });
  table.tBodies[0].append(...rows.map((pair) => pair[1]));
}

function cellOf(tag, text) {
  const cell = document.createElement(tag);
  cell.textContent = text;
  return cell;
}

function drawMatrix(place, names, one, other) {
  const table = document.createElement("table");
  const head = table.createTHead().insertRow();
  head.append(cellOf("th", ""), ...names.map((name) => cellOf("th", name)));
  const body = table.createTBody();
  names.forEach((name, row) => {
    const total = one[row].reduce((sum, count) => sum + count, 0) || 1;
    const line = body.insertRow();
    line.append(cellOf("th", name));
    one[row].forEach((count, column) => {
      const value = other ? count - other[row][column] : count;
      const cell = cellOf("td", value ? (other && value > 0 ? "+" : "") + value : "");
      // Below 1, so that the numbers stay legible.
      const strength = Math.min(1, Math.abs(value) / total) * 0.75;
      // Blue: correct predictions or, in a difference, more of these and fewer errors.
      const good = other ? (value > 0) === (row === column) : row === column;
      if (value) cell.style.background = good ? `rgba(40, 130, 220, ${strength})` : `rgba(225, 95, 40, ${strength})`;
      line.append(cell);
    });
  });
  place.classList.toggle("many", names.length > 30);
  place.replaceChildren(table);
}

function confusions(script) {
  const section = document.querySelector(`.board[data-board="${script.dataset.board}"] .confusion`);
  const data = JSON.parse(script.textContent);
  const matrices = data.matrices;
  if (!matrices.length) return;
  const [one, other] = [section.querySelector(".one"), section.querySelector(".other")];
  matrices.forEach((matrix, number) => {
    one.append(new Option(matrix.title, number));
    other.append(new Option(matrix.title, number));
  });
  other.prepend(new Option("nothing", "", true, true));
  const counts = (value) => (value === "" ? null : matrices[value].counts);
  const draw = () => drawMatrix(section.querySelector(".matrix"), data.names, counts(one.value), counts(other.value));
  one.addEventListener("change", draw);
  other.addEventListener("change", draw);
  draw();
}

// Each thumbnail is in the page once, although several galleries may show it.
function pictures() {
  const data = JSON.parse(document.getElementById("thumbnails").textContent);
  const show = (image) => { image.src = data[image.dataset.thumbnail]; };
  document.querySelectorAll("img[data-thumbnail]").forEach(show);
}

document.querySelectorAll("table").forEach(sortable);
document.querySelectorAll("script.confusions").forEach(confusions);
pictures();
