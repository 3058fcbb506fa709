// The leaderboard as a chart: one line a row, sortable by any metric, filtered by model, setting and initialisation.

import { downloads } from "./chart.js";
import { choice, figure, html, svg, withInterval } from "./elements.js";
import { bound, icon, KINDS, mark } from "./looks.js";
import { ALPHA } from "./pairs.js";

/** @typedef {import("./looks.js").Row} Row */
/** @typedef {import("./looks.js").Metric} Metric */
/** @typedef {import("./pairs.js").Pairs} Pairs */
/** @typedef {{rows: Row[], metrics: Metric[], colour: (row: Row) => string}} Board */
/** @typedef {{metric: string, sort: string, down: boolean, model: string, kind: string, init: string, most: number}} State */

const ALL = "", MOST_NAMES = 5;

/**
 * Return the leaderboard, with its controls.
 * @param {Board} board
 * @param {Pairs} pairs
 * @param {string} picture the accuracies as SVG, which stands beside the Markdown too
 * @returns {HTMLElement}
 */
export function leaderboard(board, pairs, picture) {
  const latency = board.metrics.find((metric) => metric.kind === "latency");
  const state = { metric: "top1", sort: "top1", down: true, model: ALL, kind: ALL, init: ALL, most: Infinity };
  const place = html("div", { class: "wide" });
  const said = html("p", { class: "caption", role: "status" });
  const draw = () => {
    const kept = board.rows.filter((row) => matches(row, state, latency));
    place.replaceChildren(table(board, kept, state, latency, draw));
    said.textContent = kept.length < board.rows.length ? `${kept.length} of ${board.rows.length} rows. ${verdict(kept, pairs)}` : "";
  };
  const set = (/** @type {Partial<State>} */ change) => { Object.assign(state, change); draw(); };
  const options = (/** @type {(row: Row) => string} */ of, /** @type {(value: string) => string} */ text) =>
    /** @type {[string, string][]} */ ([[ALL, "all"], ...[...new Set(board.rows.map(of))].sort().map((value) => [value, text(value)])]);
  const controls = html("p", { class: "controls" },
    choice("Show", board.metrics.map((metric) => [metric.key, metric.title]), (value) => set({ metric: value, sort: value, down: board.metrics.some((one) => one.key === value && one.better === "high") }), state.metric),
    choice("Model", options((row) => row.model, (value) => value), (value) => set({ model: value })),
    choice("Setting", options((row) => row.kind, (value) => KINDS[value]), (value) => set({ kind: value })),
    choice("Weights", options((row) => row.init, (value) => value), (value) => set({ init: value })));
  if (latency) {
    const limit = /** @type {HTMLInputElement} */ (html("input", { type: "number", min: 0, step: "any", size: 6, oninput: () => set({ most: limit.value === "" ? Infinity : Number(limit.value) }) }));
    controls.append(html("label", {}, `${latency.title} (p50) at most `, limit, " ms"));
  }
  draw();
  const rows = [["row", ...board.metrics.flatMap(({ title, unit }) => [`${title}, ${unit}`, "low", "high"])], ...board.rows.map((row) => [row.name, ...board.metrics.flatMap(({ key }) => [0, 1, 2].map((place) => (row.values[key] || [])[place] ?? null))])];
  controls.append(downloads("leaderboard", () => picture, rows));
  // On a phone the rows are more useful in the first screen than the lists that filter them.
  const folded = html("details", { open: !matchMedia("(max-width: 800px)").matches }, html("summary", {}, "Sort and filter"), controls);
  return html("div", { class: "leaderboard" }, folded, place, said);
}

/**
 * @param {Row} row
 * @param {State} state
 * @param {Metric | undefined} latency
 */
function matches(row, state, latency) {
  const known = latency && row.values[latency.key];
  if (state.most < Infinity && !(known && known[0] <= state.most)) return false;
  return (!state.model || row.model === state.model) && (!state.kind || row.kind === state.kind) && (!state.init || row.init === state.init);
}

/**
 * Return which of some rows is the most accurate, and how sure that is, by the tests of all pairs of the table.
 * @param {Row[]} kept
 * @param {Pairs} pairs
 * @returns {string}
 */
function verdict(kept, pairs) {
  const places = new Map(pairs.ids.map((id, place) => [id, place])), at = (/** @type {Row} */ row) => /** @type {number} */ (places.get(row.id));
  const [best, ...others] = kept.filter((row) => places.has(row.id)).sort((a, b) => at(a) - at(b));
  if (!others.length) return "";
  const open = others.filter((row) => pairs.holm[at(best)][at(row)] > ALPHA).map((row) => row.name);
  const named = [open.slice(0, MOST_NAMES).join(", "), ...(open.length > MOST_NAMES ? [`${open.length - MOST_NAMES} more`] : [])].join(" and ");
  const sure = open.length ? `no significant difference to ${named}` : "significantly better than each of the others";
  return `The most accurate of them is ${best.name}, ${withInterval(best.values.top1, "%")}; ${sure}.`;
}

/**
 * @param {Board} board
 * @param {Row[]} kept
 * @param {State} state
 * @param {Metric | undefined} latency
 * @param {() => void} draw
 */
function table(board, kept, state, latency, draw) {
  const metric = board.metrics.find((one) => one.key === state.metric) || board.metrics[0];
  const columns = [
    { key: "rank", title: "Rank", about: "95 % rank interval" }, { key: "name", title: "Model", about: "" }, { key: metric.key, title: `${metric.title}, ${metric.unit}`, about: "with 95 % interval" },
    ...(metric.key === "top1" ? [{ key: "best", title: "Best, %", about: "probability of being the most accurate of all rows" }] : []),
    ...(latency && latency.key !== metric.key ? [{ key: latency.key, title: `${latency.short}, ms`, about: `p50 of ${latency.title.toLowerCase()}` }] : []),
    ...(metric.key === "size" ? [] : [{ key: "size", title: "Size, MB", about: "of the ONNX file" }]),
  ];
  const head = html("tr", {}, ...columns.map((column) => {
    const sorted = state.sort === column.key ? (state.down ? "descending" : "ascending") : null;
    const sort = () => { state.down = state.sort === column.key ? !state.down : column.key === metric.key; state.sort = column.key; draw(); };
    return html("th", { scope: "col", title: column.about || null, "aria-sort": sorted }, html("button", { type: "button", onclick: sort }, column.title));
  }));
  const values = kept.flatMap((row) => row.values[metric.key] || []);
  const range = /** @type {[number, number]} */ ([Math.min(...values, metric.unit === "%" ? 100 : Infinity), Math.max(...values)]);
  const lines = ordered(kept, state).map((row) => line(row, board, columns.map((column) => column.key), metric, range));
  return html("table", { class: "board" }, html("thead", {}, head), html("tbody", {}, ...lines));
}

/**
 * Return the rows in order; rows without a value are last in both directions.
 * @param {Row[]} rows
 * @param {{sort: string, down: boolean}} state
 */
function ordered(rows, state) {
  const value = (/** @type {Row} */ row) => (state.sort === "best" ? row.best : state.sort === "rank" ? row.rank && row.rank[0] + row.rank[1] / 1e4 : state.sort === "name" ? row.name : (row.values[state.sort] || [null])[0]);
  return [...rows].sort((a, b) => {
    const [first, second] = [value(a), value(b)];
    if (first === null || second === null) return Number(first === null) - Number(second === null);
    const order = typeof first === "string" ? first.localeCompare(String(second)) : first - Number(second);
    return state.down ? -order : order;
  });
}

/**
 * @param {Row} row
 * @param {Board} board
 * @param {string[]} columns
 * @param {Metric} metric
 * @param {[number, number]} range
 */
function line(row, board, columns, metric, range) {
  const colour = board.colour(row), rank = row.rank ? [...new Set(row.rank)].join("-") : "-";
  const cells = columns.map((key) => {
    if (key === "rank") return html("td", {}, rank);
    if (key === "name") return html("th", { scope: "row" }, icon(row, colour), ` ${row.model}`, html("small", {}, row.setting.join(", ")));
    if (key === "best") return html("td", { class: "number" }, row.best === null ? "-" : String(Math.round(100 * row.best)));
    if (row.failed) return key === metric.key ? html("td", { class: "failed" }, row.failed) : html("td", {}, "-");
    const value = row.values[key];
    if (key !== metric.key) return html("td", { class: "number" }, value ? bound(row, key) + figure(value[0]) : row.missing[key] || "-");
    return html("td", {}, value ? bar(value, range, row.kind, colour) : null, html("span", { class: "number" }, value ? bound(row, key) + withInterval(value, metric.unit).replace(` ${metric.unit}`, "") : row.missing[metric.key] || "not measured"));
  });
  return html("tr", {}, ...cells);
}

/**
 * Return a value as the row's mark with its interval as a bar, on the range of all rows.
 * @param {number[]} value
 * @param {[number, number]} range
 * @param {string} kind
 * @param {string} colour
 */
function bar(value, [low, high], kind, colour) {
  const x = (/** @type {number} */ at) => 6 + ((at - low) / (high - low || 1)) * 208;
  const picture = svg("svg", { viewBox: "0 0 220 18", class: "bar", "aria-hidden": "true" }, svg("line", { x1: 6, x2: 214, y1: 9, y2: 9, class: "grid" }));
  if (value.length > 1) picture.append(svg("rect", { x: x(value[1]), y: 5, width: Math.max(x(value[2]) - x(value[1]), 1), height: 8, rx: 2, fill: colour, opacity: 0.4 }));
  picture.append(mark(kind, x(value[0]), 9, colour, 4.5));
  return picture;
}
