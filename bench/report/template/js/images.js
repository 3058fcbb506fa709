// The test images: what the first seed of each row predicts for them, filtered; and the images behind a confusion.

import { choice, html } from "./elements.js";
import { icon } from "./looks.js";

/** @typedef {import("./board.js").Board} Board */
/** @typedef {import("./looks.js").Row} Row */
/**
 * @typedef {{ids: string[], labels: string, rows: {id: string, seed: number, predicted: string, p: string,
 *   p_true: string, counts?: number[][]}[]}} Packed
 */
/** @typedef {{row: Row, seed: number, predicted: Uint16Array, p: Uint8Array, pTrue: Uint8Array, counts?: number[][]}} Predictions */
/**
 * @typedef {{ids: string[], labels: Uint16Array, classes: string[], rows: Predictions[], pictures: Map<string, string>,
 *   duplicates: Set<string>}} Images
 */
/** @typedef {{kind: string, row: number, true?: number, predicted?: number}} Filter */

const PER_PAGE = 48;

/**
 * Return the bytes of base64 text.
 * @param {string} text
 * @returns {Uint8Array}
 */
function bytes(text) {
  return Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
}

/**
 * Return the predictions of a table as arrays.
 * @param {Board} board
 * @param {Packed} packed
 * @param {string[]} classes
 * @param {Map<string, string>} pictures data URIs by image id
 * @param {string[]} duplicates ids of images with a copy in another split
 * @returns {Images}
 */
export function unpacked(board, packed, classes, pictures, duplicates) {
  const words = (/** @type {string} */ text) => new Uint16Array(bytes(text).buffer);
  const rows = packed.rows.map((one) => ({
    row: /** @type {Row} */ (board.rows.find((row) => row.id === one.id)), seed: one.seed,
    predicted: words(one.predicted), p: bytes(one.p), pTrue: bytes(one.p_true), counts: one.counts,
  }));
  return { ids: packed.ids, labels: words(packed.labels), classes, rows, pictures, duplicates: new Set(duplicates) };
}

/**
 * Return the counts of a confusion matrix, ``[true][predicted]``.
 * @param {Images} images
 * @param {number} row
 * @returns {number[][]}
 */
export function counts(images, row) {
  // Of all test images, where the page lists some of them.
  const whole = images.rows[row].counts;
  if (whole) return whole;
  const found = images.classes.map(() => new Array(images.classes.length).fill(0));
  images.labels.forEach((label, image) => { found[label][images.rows[row].predicted[image]] += 1; });
  return found;
}

/** @param {Images} images */
function useful(images) {
  const found = images.rows.filter((one) => !one.row.weak);
  return found.length ? found : images.rows;
}

/** @type {Record<string, {title: string, matches: (images: Images, image: number, filter: Filter) => boolean}>} */
const FILTERS = {
  // Rows that are no better than the majority class are left out, unless there are no others.
  all: { title: "wrong by every row", matches: (images, image) => useful(images).every((one) => one.predicted[image] !== images.labels[image]) },
  one: { title: "wrong by this row", matches: (images, image, filter) => images.rows[filter.row].predicted[image] !== images.labels[image] },
  only: { title: "wrong by this row only", matches: (images, image, filter) => images.rows.every((one, row) => (one.predicted[image] !== images.labels[image]) === (row === filter.row)) },
  unsure: { title: "least confident of this row", matches: () => true },
  duplicates: { title: "with a duplicate in another split", matches: (images, image) => images.duplicates.has(images.ids[image]) },
  cell: { title: "of the chosen confusion", matches: (images, image, filter) => (filter.true === undefined || images.labels[image] === filter.true) && (filter.predicted === undefined || images.rows[filter.row].predicted[image] === filter.predicted) },
};

/**
 * Return the images that a filter keeps: mistakes with the most confident first, else the least confident first.
 * @param {Images} images
 * @param {Filter} filter
 * @returns {number[]}
 */
export function found(images, filter) {
  const kept = [...images.ids.keys()].filter((image) => FILTERS[filter.kind].matches(images, image, filter));
  const p = images.rows[filter.row].p, wrong = filter.kind === "all" || filter.kind === "one" || filter.kind === "only";
  return kept.sort((a, b) => (wrong ? p[b] - p[a] : p[a] - p[b]) || a - b);
}

/**
 * Return the gallery with its controls, and a function that shows the images of a filter.
 * @param {Board} board
 * @param {Images} images
 * @param {string} missing why there are no pictures; "" if there are
 * @returns {{element: HTMLElement, show: (filter: Filter) => void}}
 */
export function gallery(board, images, missing) {
  if (!images.rows.length) return { element: html("p", { class: "none" }, "Predictions are not available."), show: () => {} };
  /** @type {Filter} */
  let filter = { kind: "all", row: 0 };
  let page = 0;
  const place = html("div", { class: "gallery" }), said = html("p", { role: "status" }), more = html("p", { class: "controls" });
  const kinds = html("select", { onchange: () => set({ ...filter, kind: /** @type {HTMLSelectElement} */ (kinds).value }) });
  const draw = () => {
    const every = found(images, filter), part = every.slice(page * PER_PAGE, (page + 1) * PER_PAGE);
    const cell = filter.kind === "cell" ? ` (${filter.true === undefined ? "any class" : images.classes[filter.true]} taken for ${filter.predicted === undefined ? "any class" : images.classes[filter.predicted]})` : "";
    said.textContent = `${every.length.toLocaleString("en")} of ${images.ids.length.toLocaleString("en")} test images${cell}${every.length > PER_PAGE ? `, ${page * PER_PAGE + 1} to ${page * PER_PAGE + part.length}` : ""}. ${missing}`;
    place.replaceChildren(...part.map((image) => shot(board, images, image)));
    const turn = (/** @type {number} */ by, /** @type {string} */ text) => html("button", { type: "button", disabled: page + by < 0 || (page + by) * PER_PAGE >= every.length, onclick: () => { page += by; draw(); } }, text);
    more.replaceChildren(...(every.length > PER_PAGE ? [turn(-1, "previous"), " ", turn(1, "next")] : []));
  };
  const set = (/** @type {Filter} */ change) => { filter = change; page = 0; /** @type {HTMLSelectElement} */ (kinds).value = filter.kind; /** @type {HTMLSelectElement} */ (rows.querySelector("select")).value = String(filter.row); draw(); };
  for (const [kind, one] of Object.entries(FILTERS)) kinds.append(new Option(one.title, kind));
  const rows = choice("Row", images.rows.map((one, row) => [String(row), `${one.row.name}, seed ${one.seed}`]), (value) => set({ ...filter, row: Number(value) }));
  const element = html("div", { class: "images" }, html("p", { class: "controls" }, html("label", {}, "Images ", kinds), rows), said, place, more);
  draw();
  return { element, show: set };
}

/**
 * Return an image with its label, and what each row predicts, side by side.
 * @param {Board} board
 * @param {Images} images
 * @param {number} image
 */
function shot(board, images, image) {
  const id = images.ids[image], source = images.pictures.get(id), label = images.labels[image];
  const answers = images.rows.map((one) => {
    const right = one.predicted[image] === label;
    const text = right ? `right, ${one.p[image]} %` : `${images.classes[one.predicted[image]]} (${one.p[image]} %; true class ${one.pTrue[image]} %)`;
    return html("li", { class: right ? "right" : "wrong" }, icon(one.row, board.colour(one.row)), ` ${one.row.name}: ${text}`);
  });
  const wrong = images.rows.filter((one) => one.predicted[image] !== label).length;
  return html("figure", { class: "shot" }, source ? html("img", { src: source, alt: "" }) : null,
    html("figcaption", {}, html("b", {}, images.classes[label]), html("small", {}, id),
      html("details", {}, html("summary", {}, `${wrong} of ${images.rows.length} wrong`), html("ul", {}, ...answers))));
}
