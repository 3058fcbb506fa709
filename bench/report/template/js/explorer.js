// Any metric against any other, with intervals, the Pareto front, and lines from rows to those that derive from them.

import { chart, legend } from "./chart.js";
import { choice, html, withInterval } from "./elements.js";
import { bound, icon, KINDS, mark } from "./looks.js";

/** @typedef {import("./looks.js").Row} Row */
/** @typedef {import("./looks.js").Metric} Metric */
/** @typedef {import("./board.js").Board} Board */

/**
 * Return the explorer with its controls.
 * @param {Board} board
 * @returns {HTMLElement}
 */
export function explorer(board) {
  const costs = board.metrics.filter((metric) => metric.better === "low");
  const first = costs.find((metric) => metric.kind === "latency" && board.rows.some((row) => row.values[metric.key])) || costs[0];
  const state = { x: first.key, y: "top1", log: true };
  const place = html("div"), about = html("div", { class: "about", role: "status" }, "Choose a point for the details of its row.");
  const draw = () => place.replaceChildren(picture(board, state, (row) => about.replaceChildren(details(board, row))));
  const options = (/** @type {Metric[]} */ metrics) => metrics.map((metric) => /** @type {[string, string]} */ ([metric.key, metric.title]));
  const box = /** @type {HTMLInputElement} */ (html("input", { type: "checkbox", checked: true, onchange: () => { state.log = box.checked; draw(); } }));
  const controls = html("p", { class: "controls" },
    choice("Cost", options(costs), (value) => { state.x = value; draw(); }, state.x),
    choice("Against", options(board.metrics.filter((metric) => metric.better === "high" || metric.key === "log_loss")), (value) => { state.y = value; draw(); }, state.y),
    html("label", {}, box, " logarithmic"));
  draw();
  return html("div", { class: "explorer" }, controls, place, about);
}

/**
 * Return the rows on the Pareto front: no other row is at least as good in both metrics and better in one.
 * @param {Row[]} rows
 * @param {Metric} x
 * @param {Metric} y
 * @returns {Set<string>}
 */
export function front(rows, x, y) {
  const good = (/** @type {Row} */ row, /** @type {Metric} */ metric) => (metric.better === "high" ? 1 : -1) * row.values[metric.key][0];
  const beaten = (/** @type {Row} */ row) => rows.some((other) => {
    const gains = [x, y].map((metric) => good(other, metric) - good(row, metric));
    return Math.min(...gains) >= 0 && Math.max(...gains) > 0;
  });
  return new Set(rows.filter((row) => !beaten(row)).map((row) => row.id));
}

/**
 * @param {Board} board
 * @param {{x: string, y: string, log: boolean}} state
 * @param {(row: Row) => void} chosen
 */
function picture(board, state, chosen) {
  const [x, y] = [state.x, state.y].map((key) => /** @type {Metric} */ (board.metrics.find((metric) => metric.key === key)));
  const rows = board.rows.filter((row) => row.values[x.key] && row.values[y.key]);
  if (!rows.length) return html("p", { class: "none" }, `No row has both ${x.title} and ${y.title}.`);
  const best = front(rows, x, y), byId = new Map(rows.map((row) => [row.id, row]));
  const at = (/** @type {Row} */ row) => /** @type {[number, number]} */ ([row.values[x.key][0], row.values[y.key][0]]);
  const interval = (/** @type {number[]} */ value) => (value.length > 1 ? /** @type {[number, number]} */ ([value[1], value[2]]) : null);
  const points = rows.map((row) => ({
    x: at(row)[0], y: at(row)[1], xEnds: interval(row.values[x.key]), yEnds: interval(row.values[y.key]),
    colour: best.has(row.id) ? board.colour(row) : "var(--faint)",
    draw: (/** @type {number} */ left, /** @type {number} */ top) => mark(row.kind, left, top, best.has(row.id) ? board.colour(row) : "var(--faint)"),
    label: best.has(row.id) ? row.name : "", faint: !best.has(row.id), chosen: () => chosen(row),
    about: `${row.name}: ${withInterval(row.values[y.key], y.unit)}, ${withInterval(row.values[x.key], x.unit)}`,
  }));
  const lines = rows.flatMap((row) => row.from.flatMap((id) => {
    const origin = byId.get(id);
    return origin ? [{ points: /** @type {[number, number][]} */ ([at(origin), at(row)]), colour: "var(--faint)", thin: true, name: `${origin.name} to ${row.name}` }] : [];
  }));
  const names = rows.filter((row) => best.has(row.id)).map((row) => row.name);
  return chart({
    title: `${y.title} against ${/^[A-Z][a-z]/.test(x.title) ? x.title.charAt(0).toLowerCase() : x.title.charAt(0)}${x.title.slice(1)}`, file: "pareto", points, lines,
    x: { title: x.title, unit: x.unit, log: state.log }, y: { title: y.title, unit: y.unit, most: y.unit === "%" ? 100 : undefined },
    rows: [["row", x.title, `${x.title} low`, `${x.title} high`, y.title, `${y.title} low`, `${y.title} high`, "front"],
      ...rows.map((row) => [row.name, ...three(row.values[x.key]), ...three(row.values[y.key]), best.has(row.id) ? "yes" : "no"])],
    note: `On the Pareto front by these estimates: ${names.join(", ")}. Bars are 95 % intervals; lines lead to tuned rows, frozen features and ensembles. Sampling may change the front: see the probabilities below.`,
    legend: legend([...new Set(rows.map((row) => row.kind))].map((kind) => ({ name: KINDS[kind], sample: icon(/** @type {Row} */ (rows.find((row) => row.kind === kind)), "currentColor") }))),
  });
}

/**
 * @param {number[]} value
 * @returns {(number | null)[]}
 */
function three(value) {
  return value.length > 1 ? value : [value[0], null, null];
}

/**
 * @param {Board} board
 * @param {Row} row
 */
function details(board, row) {
  const lines = board.metrics.filter((metric) => row.values[metric.key]).map((metric) => html("tr", {}, html("th", { scope: "row" }, metric.title), html("td", {}, bound(row, metric.key) + withInterval(row.values[metric.key], metric.unit))));
  const rank = row.rank ? `rank ${[...new Set(row.rank)].join(" to ")}, best with probability ${Math.round(100 * (row.best || 0))} %` : "not ranked";
  return html("div", {}, html("p", {}, icon(row, board.colour(row)), html("b", {}, ` ${row.name}`), ` (${row.init}, seeds ${row.seeds.join(", ")}; ${rank})`), html("table", {}, html("tbody", {}, ...lines)));
}
