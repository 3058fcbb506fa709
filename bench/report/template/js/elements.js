// Elements and numbers. Text is inserted as text nodes only: names of classes and files may contain markup.

/** @typedef {string | number | Node | null} Child */

const SVG = "http://www.w3.org/2000/svg";

/**
 * Return an HTML element; attributes that start with "on" are listeners.
 * @param {string} tag
 * @param {Record<string, any>} [attributes]
 * @param {...Child} children
 * @returns {HTMLElement}
 */
export function html(tag, attributes = {}, ...children) {
  return /** @type {HTMLElement} */ (filled(document.createElement(tag), attributes, children));
}

/**
 * Return an SVG element, in the same way.
 * @param {string} tag
 * @param {Record<string, any>} [attributes]
 * @param {...Child} children
 * @returns {SVGElement}
 */
export function svg(tag, attributes = {}, ...children) {
  return /** @type {SVGElement} */ (filled(document.createElementNS(SVG, tag), attributes, children));
}

/**
 * @param {Element} element
 * @param {Record<string, any>} attributes
 * @param {Child[]} children
 * @returns {Element}
 */
function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null).map((child) => (typeof child === "number" ? String(child) : child)));
  return element;
}

/**
 * Return a number with three significant digits.
 * @param {number} value
 * @returns {string}
 */
export function figure(value) {
  const size = Math.abs(value);
  if (size >= 1000) return Math.round(value).toLocaleString("en");
  return size >= 100 ? value.toFixed(0) : size >= 10 ? value.toFixed(1) : size >= 1 ? value.toFixed(2) : value.toPrecision(2).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");
}

/**
 * Return a number with a sign and one decimal.
 * @param {number} value
 * @returns {string}
 */
export function signed(value) {
  return (value > 0 ? "+" : "") + value.toFixed(1);
}

/**
 * Return a value with its interval and unit; per cent with one decimal, all else with three digits.
 * @param {number[] | undefined} value
 * @param {string} unit
 * @returns {string}
 */
export function withInterval(value, unit) {
  if (!value) return "-";
  const text = unit === "%" ? (/** @type {number} */ one) => one.toFixed(1) : figure;
  const interval = value.length > 1 ? ` (${text(value[1])} to ${text(value[2])})` : "";
  return `${text(value[0])} ${unit}${interval}`;
}

/**
 * Return a p value for a sentence.
 * @param {number} p
 * @returns {string}
 */
export function pText(p) {
  return p < 0.0001 ? "p < 0.0001" : `p = ${p.toPrecision(2)}`;
}

/**
 * Return a drop-down list with a label.
 * @param {string} label
 * @param {[string, string][]} options value and text of each
 * @param {(value: string) => void} changed
 * @param {string} [chosen]
 * @returns {HTMLElement}
 */
export function choice(label, options, changed, chosen) {
  const select = /** @type {HTMLSelectElement} */ (html("select", { onchange: () => changed(select.value) }));
  for (const [value, text] of options) select.append(new Option(text, value, value === chosen, value === chosen));
  return html("label", {}, `${label} `, select);
}

/**
 * Offer a text as a file.
 * @param {string} name
 * @param {string} text
 * @param {string} type
 */
export function download(name, text, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

/**
 * Return rows as CSV; a cell that could start a formula in a spreadsheet is quoted with an apostrophe.
 * @param {(string | number | null)[][]} rows
 * @returns {string}
 */
export function csv(rows) {
  const cell = (/** @type {string | number | null} */ value) => {
    if (value === null) return "";
    const text = typeof value === "string" && /^[=+@-]/.test(value) ? `'${value}` : String(value);
    return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return rows.map((row) => row.map(cell).join(",") + "\n").join("");
}
