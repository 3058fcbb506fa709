// Confusions: the most frequent ones, the matrix of a row, and its difference to that of another row.

import { alone, downloads } from "./chart.js";
import { choice, html, svg } from "./elements.js";
import { counts } from "./images.js";

/** @typedef {import("./images.js").Images} Images */
/** @typedef {import("./images.js").Filter} Filter */

const SIZE = Math.max(320, Math.min(640, document.documentElement.clientWidth - 34)), ROOM = 130, MOST_NAMED = 40, SHOWN = 10;

/**
 * Return the confusions with their controls; a click on a cell, a class or a pair shows the images behind it.
 * @param {Images} images
 * @param {(filter: Filter) => void} show
 * @returns {HTMLElement}
 */
export function confusion(images, show) {
  if (!images.rows.length) return html("p", { class: "none" }, "Predictions are not available.");
  const state = { row: 0, other: -1 };
  const place = html("div", { class: "two" });
  const names = images.rows.map((one, row) => /** @type {[string, string]} */ ([String(row), `${one.row.name}, seed ${one.seed}`]));
  const about = html("p", { class: "about", role: "status" });
  const tell = (/** @type {Filter} */ filter, /** @type {string} */ text) => { about.textContent = `${text}; listed in Images below.`; show(filter); };
  const draw = () => {
    about.textContent = "Choose a cell, a class or a confusion to see its images.";
    place.replaceChildren(most(images, state.row, tell), matrix(images, state.row, state.other, about, tell));
  };
  const controls = html("p", { class: "controls" },
    choice("Row", names, (value) => { state.row = Number(value); draw(); }),
    choice("minus", [["-1", "nothing"], ...names], (value) => { state.other = Number(value); draw(); }));
  draw();
  return html("div", { class: "confusion" }, controls, place, about);
}

/**
 * @param {Images} images
 * @param {number} row
 * @param {(filter: Filter, text: string) => void} tell
 */
function most(images, row, tell) {
  const matrix = counts(images, row);
  const pairs = matrix.flatMap((line, label) => line.map((count, predicted) => ({ label, predicted, count, share: count / Math.max(sum(line), 1) }))).filter((one) => one.label !== one.predicted && one.count);
  pairs.sort((a, b) => b.count - a.count || b.share - a.share);
  const named = (/** @type {{label: number, predicted: number}} */ one) => `${images.classes[one.label]} taken for ${images.classes[one.predicted]}`;
  const lines = pairs.slice(0, SHOWN).map((one) => html("li", {}, html("button", { type: "button", onclick: () => tell({ kind: "cell", row, true: one.label, predicted: one.predicted }, `${named(one)}: ${one.count}`) }, named(one)), ` ${one.count} image${one.count > 1 ? "s" : ""}, ${Math.round(100 * one.share)} % of the class`));
  return html("div", {}, html("h3", {}, "Most frequent confusions"), lines.length ? html("ol", {}, ...lines) : html("p", { class: "none" }, "No image is misclassified."));
}

/** @param {number[]} values */
function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}

/**
 * @param {Images} images
 * @param {number} row
 * @param {number} other
 * @param {HTMLElement} about
 * @param {(filter: Filter, text: string) => void} tell
 */
function matrix(images, row, other, about, tell) {
  const one = counts(images, row), two = other < 0 ? null : counts(images, other), classes = images.classes, side = (SIZE - ROOM) / classes.length;
  const picture = svg("svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, role: "group", "aria-label": "Confusion matrix", class: "confusions" });
  picture.append(svg("rect", { x: ROOM, y: 0, width: SIZE - ROOM, height: SIZE - ROOM, class: "ground" }));
  const few = classes.length <= MOST_NAMED;
  classes.forEach((name, label) => {
    if (few || label % 5 === 0) {
      const at = (label + 0.5) * side, short = name.length > 18 ? `${name.slice(0, 17)}…` : name, size = Math.min(12, Math.max(few ? side * 0.8 : 8, 7));
      const pick = (/** @type {Filter} */ filter, /** @type {string} */ text) => ({ class: "class", "font-size": size, onclick: () => tell(filter, text) });
      picture.append(svg("text", { x: ROOM - 5, y: at + size / 3, "text-anchor": "end", ...pick({ kind: "cell", row, true: label }, `${name}: ${sum(one[label])} test images`) }, short));
      picture.append(svg("text", { transform: `translate(${ROOM + at + size / 3} ${SIZE - ROOM + 6}) rotate(90)`, ...pick({ kind: "cell", row, predicted: label }, `Taken for ${name}: ${sum(one.map((line) => line[label]))} test images`) }, short));
    }
    const total = Math.max(sum(one[label]), 1);
    one[label].forEach((count, predicted) => {
      const value = two ? count - two[label][predicted] : count;
      if (!value) return;
      const good = two ? (value > 0) === (label === predicted) : label === predicted;
      const text = `${name} taken for ${classes[predicted]}: ${two && value > 0 ? "+" : ""}${value} of ${total}`;
      const cell = svg("rect", { x: ROOM + predicted * side, y: label * side, width: side, height: side, fill: good ? "#0072B2" : "#D55E00", opacity: 0.15 + 0.65 * Math.min(1, Math.abs(value) / total), onclick: () => tell({ kind: "cell", row, true: label, predicted }, text), onmouseenter: () => { about.textContent = text; } }, svg("title", {}, text));
      picture.append(cell);
      if (side >= 22) picture.append(svg("text", { x: ROOM + (predicted + 0.5) * side, y: (label + 0.5) * side + 4, "text-anchor": "middle", class: "count", "pointer-events": "none" }, value));
    });
  });
  const rows = [["true", "predicted", "images"], ...one.flatMap((line, label) => line.map((count, predicted) => [classes[label], classes[predicted], two ? count - two[label][predicted] : count]))];
  const title = two ? "Images of the first row less those of the second; blue: more right or fewer errors" : "Images of the true class (line) that are taken for the class of the column; blue: right";
  return html("figure", {}, html("figcaption", {}, title, downloads("confusion", () => alone(picture, title), rows)), picture);
}
