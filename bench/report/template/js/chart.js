// A chart of points, lines and bands on two axes, as SVG, with a title, and downloads as SVG and CSV.

import { csv, download, figure, html, svg } from "./elements.js";

/** @typedef {{title: string, unit: string, log?: boolean, least?: number, most?: number}} Axis */
/**
 * @typedef {{x: number, y: number, xEnds?: [number, number] | null, yEnds?: [number, number] | null, colour: string,
 *   draw: (x: number, y: number) => SVGElement, label?: string, faint?: boolean, about?: string,
 *   chosen?: () => void}} Point
 */
/**
 * @typedef {{points: [number, number][], colour: string, band?: [number, number, number][], dash?: string, name?: string,
 *   thin?: boolean}} Line
 */

// As wide as a phone, where text would be too small in a wide picture that is scaled.
const WIDTH = Math.max(320, Math.min(640, document.documentElement.clientWidth - 34)), HEIGHT = 360, LEFT = 58, RIGHT = 14, TOP = 12, BOTTOM = 46;

let number = 0;

/**
 * Return the ends of an axis: those of the values with a margin, unless they are given.
 * @param {number[]} values
 * @param {Axis} axis
 * @returns {[number, number]}
 */
function ends(values, axis) {
  const known = values.filter((value) => Number.isFinite(value) && (!axis.log || value > 0));
  let [low, high] = known.length ? [Math.min(...known), Math.max(...known)] : [axis.log ? 1 : 0, axis.log ? 10 : 1];
  if (axis.log) return low === high ? [low / 1.5, high * 1.5] : [low / (high / low) ** 0.06, high * (high / low) ** 0.06];
  const margin = (high - low || Math.abs(high) || 1) * 0.06;
  [low, high] = [low - margin, high + margin];
  return [axis.least === undefined ? low : Math.max(low, axis.least), axis.most === undefined ? high : Math.min(high, axis.most)];
}

/**
 * Return a function from values to places, and the ticks of an axis.
 * @param {[number, number]} range
 * @param {boolean} log
 * @param {number} from
 * @param {number} to
 * @returns {{place: (value: number) => number, ticks: number[]}}
 */
function scale(range, log, from, to) {
  const [low, high] = log ? range.map(Math.log10) : range;
  const place = (/** @type {number} */ value) => from + (((log ? Math.log10(value) : value) - low) / (high - low || 1)) * (to - from);
  return { place, ticks: log ? logTicks(range) : linearTicks(range) };
}

/** @param {[number, number]} range */
function linearTicks([low, high]) {
  const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough) || rough;
  const ticks = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) ticks.push(Number(value.toPrecision(10)));
  return ticks;
}

/** @param {[number, number]} range */
function logTicks([low, high]) {
  const ticks = [], parts = high / low > 100 ? [1] : high / low > 12 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 7];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
    for (const part of parts) if (part * 10 ** power >= low && part * 10 ** power <= high) ticks.push(part * 10 ** power);
  }
  return ticks;
}

/**
 * Return a chart as a figure with its title and downloads.
 * @param {{title: string, x: Axis, y: Axis, points?: Point[], lines?: Line[], rows: (string | number | null)[][],
 *   note?: string, legend?: Node | null, file: string}} spec
 * @returns {HTMLElement}
 */
export function chart(spec) {
  const points = spec.points || [], lines = spec.lines || [];
  const every = (/** @type {0 | 1} */ side) => [
    ...points.flatMap((one) => [side ? one.y : one.x, ...((side ? one.yEnds : one.xEnds) || [])]),
    ...lines.flatMap((one) => [...one.points.map((point) => point[side]), ...(side && one.band ? one.band.flatMap(([, low, high]) => [low, high]) : [])]),
  ];
  const x = scale(ends(every(0), spec.x), Boolean(spec.x.log), LEFT, WIDTH - RIGHT);
  const y = scale(ends(every(1), spec.y), Boolean(spec.y.log), HEIGHT - BOTTOM, TOP);
  number += 1;
  const id = `chart-${number}`;
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "group", "aria-labelledby": id, xmlns: "http://www.w3.org/2000/svg" });
  picture.append(axes(x, y, spec), ...lines.map((one) => line(one, x.place, y.place)), ...points.map((one) => point(one, x.place, y.place)), labels(points, x.place, y.place));
  const tools = downloads(spec.file, () => alone(picture, spec.title), spec.rows);
  return html("figure", {}, html("figcaption", { id }, spec.title, tools), spec.legend || null, picture, spec.note ? html("p", { class: "caption" }, spec.note) : null);
}

/**
 * @param {{place: (value: number) => number, ticks: number[]}} x
 * @param {{place: (value: number) => number, ticks: number[]}} y
 * @param {{x: Axis, y: Axis}} spec
 */
function axes(x, y, spec) {
  const group = svg("g", { class: "axes", "aria-hidden": "true" });
  for (const value of x.ticks) {
    group.append(svg("line", { x1: x.place(value), x2: x.place(value), y1: TOP, y2: HEIGHT - BOTTOM, class: "grid" }));
    group.append(svg("text", { x: x.place(value), y: HEIGHT - BOTTOM + 16, "text-anchor": "middle" }, figure(value)));
  }
  for (const value of y.ticks) {
    group.append(svg("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y.place(value), y2: y.place(value), class: "grid" }));
    group.append(svg("text", { x: LEFT - 6, y: y.place(value) + 4, "text-anchor": "end" }, figure(value)));
  }
  group.append(svg("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 8, "text-anchor": "middle" }, named(spec.x)));
  group.append(svg("text", { transform: `translate(14 ${(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)`, "text-anchor": "middle" }, named(spec.y)));
  return group;
}

/** @param {Axis} axis */
function named(axis) {
  return axis.unit ? `${axis.title}, ${axis.unit}` : axis.title;
}

/**
 * @param {Line} one
 * @param {(value: number) => number} x
 * @param {(value: number) => number} y
 */
function line(one, x, y) {
  const group = svg("g");
  const path = (/** @type {[number, number][]} */ points) => points.map(([a, b], place) => `${place ? "L" : "M"}${x(a).toFixed(1)},${y(b).toFixed(1)}`).join("");
  if (one.band && one.band.length > 1) {
    const low = one.band.map(([at, value]) => /** @type {[number, number]} */ ([at, value]));
    const high = one.band.map(([at, , value]) => /** @type {[number, number]} */ ([at, value])).reverse();
    group.append(svg("path", { d: `${path([...low, ...high])}Z`, fill: one.colour, opacity: 0.18 }));
  }
  group.append(svg("path", { d: path(one.points), fill: "none", stroke: one.colour, "stroke-width": one.thin ? 1 : 2, "stroke-dasharray": one.dash }));
  if (one.name) group.append(svg("title", {}, one.name));
  return group;
}

/**
 * @param {Point} one
 * @param {(value: number) => number} x
 * @param {(value: number) => number} y
 */
function point(one, x, y) {
  const [left, top] = [x(one.x), y(one.y)];
  const bar = (/** @type {number[]} */ [x1, y1, x2, y2]) => svg("line", { x1, y1, x2, y2, stroke: one.colour, "stroke-width": 1.2 });
  const group = svg("g", { class: one.faint ? "point faint" : "point" });
  if (one.yEnds) group.append(bar([left, y(one.yEnds[0]), left, y(one.yEnds[1])]));
  if (one.xEnds) group.append(bar([x(one.xEnds[0]), top, x(one.xEnds[1]), top]));
  group.append(one.draw(left, top));
  if (one.about) group.append(svg("title", {}, one.about));
  if (one.chosen) {
    const chosen = one.chosen;
    for (const [name, value] of Object.entries({ tabindex: "0", role: "button", "aria-label": one.about || "" })) group.setAttribute(name, value);
    group.addEventListener("click", chosen);
    group.addEventListener("focus", chosen);
    group.addEventListener("mouseenter", chosen);
  }
  return group;
}

/**
 * Return the names of points, each where it covers no point and no other name: right, left, above or below its point.
 * @param {Point[]} points
 * @param {(value: number) => number} x
 * @param {(value: number) => number} y
 */
function labels(points, x, y) {
  const group = svg("g", { class: "names", "aria-hidden": "true" });
  const taken = points.map((one) => [x(one.x) - 6, y(one.y) + 6, 12]);
  for (const one of points.filter((each) => each.label)) {
    const [left, top, width] = [x(one.x), y(one.y), (one.label || "").length * 6.2];
    const tried = [13, 26, 39, 52].flatMap((far) => [[left + 9, top + 8 - far], [left - 9 - width, top + 8 - far], [left + 9, top + far], [left - 9 - width, top + far], [left - width / 2, top - far - 1], [left - width / 2, top + far + 9]]);
    const fits = (/** @type {number[]} */ [at, base]) => at >= LEFT - 40 && at + width <= WIDTH && base > 10 && base < HEIGHT - BOTTOM + 8 && !taken.some(([a, b, w]) => at < a + w && a < at + width && Math.abs(base - b) < 12);
    const [at, base] = tried.find(fits) || tried[0];
    taken.push([at, base, width]);
    group.append(svg("text", { x: at, y: base }, one.label || ""));
  }
  return group;
}

/**
 * Return the buttons that save a chart as SVG and its values as CSV.
 * @param {string} file name without its ending
 * @param {() => string} picture
 * @param {(string | number | null)[][]} rows
 * @returns {HTMLElement}
 */
export function downloads(file, picture, rows) {
  return html("span", { class: "tools" },
    html("button", { type: "button", onclick: () => download(`${file}.svg`, picture(), "image/svg+xml") }, "SVG"),
    html("button", { type: "button", onclick: () => download(`${file}.csv`, csv(rows), "text/csv") }, "CSV"));
}

/**
 * Return a picture as a file of its own, with a title and the colours of the page.
 * @param {SVGElement} picture
 * @param {string} title
 */
export function alone(picture, title) {
  const copy = /** @type {SVGElement} */ (picture.cloneNode(true));
  const style = getComputedStyle(document.documentElement);
  const rules = `text{font:11px system-ui,sans-serif;fill:${style.getPropertyValue("--ink")}}.grid{stroke:${style.getPropertyValue("--line")}}.ground{fill:${style.getPropertyValue("--soft")}}.faint{opacity:.55}`;
  copy.setAttribute("style", `background:${style.getPropertyValue("--paper")}`);
  copy.prepend(svg("title", {}, title), svg("style", {}, rules));
  return new XMLSerializer().serializeToString(copy).replaceAll("var(--paper)", style.getPropertyValue("--paper"));
}

/**
 * Return a legend of names with a sample of each.
 * @param {{name: string, sample: SVGElement}[]} entries
 */
export function legend(entries) {
  return html("p", { class: "legend" }, ...entries.map((one) => html("span", {}, one.sample, ` ${one.name}`)));
}
