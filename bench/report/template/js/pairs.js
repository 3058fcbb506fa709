// The differences of all pairs of rows as a matrix, coloured where they are significant.

import { alone, downloads } from "./chart.js";
import { html, pText, signed, svg } from "./elements.js";

/** @typedef {import("./board.js").Board} Board */
/**
 * @typedef {{ids: string[], difference: number[][], low: number[][], high: number[][], p: number[][], holm: number[][],
 *   loss: number[][] | null, loss_holm: number[][] | null}} Pairs
 */

export const ALPHA = 0.05;

/**
 * Return the matrix: each cell is the accuracy of its row minus that of its column.
 * @param {Board} board
 * @param {Pairs} pairs
 * @returns {HTMLElement}
 */
export function pairMatrix(board, pairs) {
  if (pairs.ids.length < 2) return html("p", { class: "none" }, "There are no two rows to compare.");
  const names = pairs.ids.map((id) => (board.rows.find((row) => row.id === id) || { name: id }).name);
  const about = html("p", { class: "about", role: "status" }, "Choose a cell for its interval and p value.");
  const most = Math.max(...pairs.difference.flat().map(Math.abs), 1);
  const say = (/** @type {number} */ i, /** @type {number} */ j) => {
    const nats = pairs.loss ? pairs.loss[i][j] : 0;
    const loss = pairs.loss_holm ? ` Log loss: ${nats > 0 ? "+" : ""}${nats.toFixed(3)} nats, ${pText(pairs.loss_holm[i][j])} (Holm).` : "";
    about.textContent = `${names[i]} minus ${names[j]}: ${signed(pairs.difference[i][j])} pp (simultaneous 95 % CI ${signed(pairs.low[i][j])} to ${signed(pairs.high[i][j])}), ${pText(pairs.holm[i][j])} (Holm), ${pText(pairs.p[i][j])} alone.${loss}`;
  };
  const colour = (/** @type {number} */ i, /** @type {number} */ j) => {
    const value = pairs.difference[i][j], strength = (0.15 + 0.6 * Math.abs(value) / most).toFixed(2);
    return pairs.holm[i][j] > ALPHA ? "" : value > 0 ? `rgba(0, 114, 178, ${strength})` : `rgba(213, 94, 0, ${strength})`;
  };
  const cell = (/** @type {number} */ i, /** @type {number} */ j) => {
    if (i === j) return html("td", { class: "same" });
    const value = pairs.difference[i][j], significant = pairs.holm[i][j] <= ALPHA;
    const tell = () => say(i, j);
    return html("td", { style: significant ? `background: ${colour(i, j)}` : null, class: significant ? "significant" : "open" },
      html("button", { type: "button", onclick: tell, onfocus: tell, onmouseenter: tell, "aria-label": `${names[i]} minus ${names[j]}: ${signed(value)} pp, ${significant ? "significant" : "not significant"}` }, signed(value)));
  };
  const head = html("tr", {}, html("td", {}), ...names.map((name) => html("th", { scope: "col" }, html("span", {}, name))));
  const body = names.map((name, i) => html("tr", {}, html("th", { scope: "row" }, name), ...names.map((_, j) => cell(i, j))));
  const table = html("table", { class: "pairs" }, html("thead", {}, head), html("tbody", {}, ...body));
  const rows = /** @type {(string | number | null)[][]} */ ([["row", "column", "difference_pp", "low", "high", "p", "p_holm"]]);
  names.forEach((name, i) => names.forEach((other, j) => { if (i < j) rows.push([name, other, pairs.difference[i][j], pairs.low[i][j], pairs.high[i][j], pairs.p[i][j], pairs.holm[i][j]]); }));
  const title = "Accuracy of the row minus that of the column, in percentage points; blue: significantly better, orange: significantly worse (Holm)";
  const tools = downloads("pairs", () => alone(picture(names, pairs, colour), title), rows);
  return html("figure", { class: "matrix" }, html("figcaption", {}, title, tools), html("div", { class: "wide" }, table), about);
}

/**
 * Return the matrix as a picture.
 * @param {string[]} names
 * @param {Pairs} pairs
 * @param {(i: number, j: number) => string} colour
 * @returns {SVGElement}
 */
function picture(names, pairs, colour) {
  const side = 46, room = 8 + 7 * Math.max(...names.map((name) => name.length)), size = room + side * names.length;
  const parts = names.flatMap((name, i) => [
    svg("text", { x: room - 6, y: room + (i + 0.5) * side + 4, "text-anchor": "end" }, name),
    svg("text", { transform: `translate(${room + (i + 0.5) * side + 4} ${room - 6}) rotate(-90)` }, name),
    ...names.flatMap((_, j) => (i === j ? [] : [
      svg("rect", { x: room + j * side, y: room + i * side, width: side, height: side, fill: colour(i, j) || "none" }),
      svg("text", { x: room + (j + 0.5) * side, y: room + (i + 0.5) * side + 4, "text-anchor": "middle" }, signed(pairs.difference[i][j])),
    ])),
  ]);
  return svg("svg", { viewBox: `0 0 ${size} ${size}` }, ...parts);
}
