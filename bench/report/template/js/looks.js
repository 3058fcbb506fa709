// How rows look in every chart: the colour means the family of the model, the shape the setting.

import { svg } from "./elements.js";

/** @typedef {{kind: "measure" | "latency", key: string, title: string, short: string, unit: string, better: "high" | "low"}} Metric */
/**
 * @typedef {{id: string, name: string, model: string, family: string, colour: string, setting: string[], kind: string, init: string,
 *   rank: [number, number] | null, best: number | null, weak: boolean, seeds: number[], failed: string | null, from: string[],
 *   values: Record<string, number[]>, at_least: string[], recalls: (number[] | null)[], missing: Record<string, string>}} Row
 */

/** @type {Record<string, string>} */
export const SHAPES = { default: "circle", tuned: "triangle", head: "square", ensemble: "diamond" };

/** @type {Record<string, string>} */
export const KINDS = { default: "trained", tuned: "tuned by a study", head: "frozen features", ensemble: "ensemble" };

/**
 * Return the mark of a row at a place.
 * @param {string} kind
 * @param {number} x
 * @param {number} y
 * @param {string} colour
 * @param {number} [size]
 * @returns {SVGElement}
 */
export function mark(kind, x, y, colour, size = 5) {
  const look = { fill: colour, stroke: "var(--paper)", "stroke-width": 1 };
  if (SHAPES[kind] === "triangle") return svg("path", { ...look, d: `M${x},${y - size * 1.2}l${size * 1.1},${size * 2}h${-size * 2.2}z` });
  if (SHAPES[kind] === "square") return svg("rect", { ...look, x: x - size * 0.9, y: y - size * 0.9, width: size * 1.8, height: size * 1.8 });
  if (SHAPES[kind] === "diamond") return svg("path", { ...look, d: `M${x},${y - size * 1.3}l${size * 1.3},${size * 1.3}l${-size * 1.3},${size * 1.3}l${-size * 1.3},${-size * 1.3}z` });
  return svg("circle", { ...look, cx: x, cy: y, r: size });
}

/**
 * Return a small picture of a row's mark, for lists.
 * @param {Row} row
 * @param {string} colour
 * @returns {SVGElement}
 */
export function icon(row, colour) {
  return svg("svg", { width: 16, height: 16, viewBox: "0 0 16 16", "aria-hidden": "true", class: "icon" }, mark(row.kind, 8, 8, colour));
}

/**
 * Return what precedes a value that is a lower bound.
 * @param {Row} row
 * @param {string} key
 * @returns {string}
 */
export function bound(row, key) {
  return row.at_least.includes(key) ? "≥ " : "";
}
