// Learning curves, cost to accuracy, latencies, reliability and risk-coverage, with seeds as bands.

import { chart, legend } from "./chart.js";
import { choice, html, svg } from "./elements.js";
import { mark } from "./looks.js";

/** @typedef {import("./board.js").Board} Board */
/** @typedef {import("./looks.js").Row} Row */
/** @typedef {{id: string, series: Record<string, [number, number, number, number][]>}} Series */
/** @typedef {{id: string, runtime: string, words: string, points: [number, number][]}} Latencies */
/** @typedef {{id: string, points: number[][]}} Points */
/** @typedef {{learning: Series[], cost: Series[], latency: Latencies[], reliability: Points[], risk: [number, number][][]}} Curves */

const DASHES = ["", "6 3", "2 3", "8 3 2 3", "12 4", "2 6", "12 3 2 3 2 3", "4 2 1 2", "1 2", "16 4 4 4"];

/**
 * Return how a row's line looks: rows of one family differ in their dashes.
 * @param {Board} board
 * @param {string} id
 */
function look(board, id) {
  const row = /** @type {Row} */ (board.rows.find((one) => one.id === id));
  const family = board.rows.filter((one) => one.family === row.family);
  return { row, colour: board.colour(row), dash: DASHES[family.indexOf(row) % DASHES.length], name: row.name };
}

/**
 * @param {Board} board
 * @param {string[]} ids
 */
function names(board, ids) {
  const sample = (/** @type {ReturnType<typeof look>} */ one) => svg("svg", { width: 30, height: 10, "aria-hidden": "true" }, svg("line", { x1: 0, x2: 30, y1: 5, y2: 5, stroke: one.colour, "stroke-width": 2, "stroke-dasharray": one.dash }));
  return legend([...new Set(ids)].map((id) => look(board, id)).map((one) => ({ name: one.name, sample: sample(one) })));
}

/**
 * Return a chart of one quantity of each row, chosen from several.
 * @param {Board} board
 * @param {Series[]} series
 * @param {Record<string, {option: string, title: string, x: import("./chart.js").Axis, y: import("./chart.js").Axis}>} kinds
 * @param {string} file
 * @param {string} none
 */
function byChoice(board, series, kinds, file, none) {
  if (!series.length) return html("p", { class: "none" }, none);
  const place = html("div");
  const draw = (/** @type {string} */ kind) => {
    const lines = series.filter((one) => (one.series[kind] || []).length).map((one) => ({
      ...look(board, one.id), points: one.series[kind].map(([x, y]) => /** @type {[number, number]} */ ([x, y])),
      band: one.series[kind].map(([x, , low, high]) => /** @type {[number, number, number]} */ ([x, low, high])),
    }));
    const rows = lines.flatMap((line) => line.points.map(([x, y], place) => [line.name, x, y, line.band[place][1], line.band[place][2]]));
    place.replaceChildren(chart({ ...kinds[kind], lines, file: `${file}-${kind}`, rows: [["row", kinds[kind].x.title, "mean", "least", "most"], ...rows], note: "Means over seeds and folds, with their least and most as a band.", legend: names(board, series.map((one) => one.id)) }));
  };
  const first = Object.keys(kinds)[0];
  draw(first);
  return html("div", {}, html("p", { class: "controls" }, choice("Show", Object.keys(kinds).map((kind) => [kind, kinds[kind].option]), draw)), place);
}

/**
 * Return the learning curves.
 * @param {Board} board
 * @param {Curves} curves
 */
export function learning(board, curves) {
  const x = { title: "Epoch", unit: "" };
  return byChoice(board, curves.learning, {
    val_loss: { option: "Val loss", title: "Loss on val after each epoch", x, y: { title: "Val loss", unit: "nats" } },
    train_loss: { option: "Train loss", title: "Loss on train in each epoch", x, y: { title: "Train loss", unit: "nats" } },
    val_top1: { option: "Accuracy on val", title: "Accuracy on val after each epoch", x, y: { title: "Accuracy on val", unit: "%" } },
    lr: { option: "Learning rate", title: "Learning rate at the start of each epoch", x, y: { title: "Learning rate", unit: "", log: true } },
  }, "learning", "No run has a history of epochs.");
}

/**
 * Return the cost to accuracy.
 * @param {Board} board
 * @param {Curves} curves
 */
export function cost(board, curves) {
  const y = { title: "Val top-1", unit: "%", most: 100 };
  return byChoice(board, curves.cost, {
    minutes: { option: "Training", title: "Accuracy on val by minutes of training", x: { title: "Training", unit: "minutes", log: true }, y },
    tmacs: { option: "Compute", title: "Accuracy on val by compute of training", x: { title: "Compute", unit: "TMACs", log: true }, y },
  }, "cost", "No run has a history of epochs.");
}

/**
 * Return the distributions of latency, one chart for each runtime.
 * @param {Board} board
 * @param {Curves} curves
 */
export function latencies(board, curves) {
  const runtimes = [...new Set(curves.latency.map((one) => one.runtime))];
  if (!runtimes.length) return html("p", { class: "none" }, "No latency was measured.");
  return html("div", { class: "charts" }, ...runtimes.map((runtime) => {
    const each = curves.latency.filter((one) => one.runtime === runtime);
    return chart({
      title: `Share of queries on ${runtime} that took at most a time`, file: `latency-${runtime}`, x: { title: "Latency, one image at a time", unit: "ms", log: true }, y: { title: "Queries", unit: "%", least: 0, most: 100 },
      lines: each.map((one) => ({ ...look(board, one.id), points: one.points })),
      rows: [["row", "ms", "percent"], ...each.flatMap((one) => one.points.map(([ms, share]) => [look(board, one.id).name, ms, share]))],
      note: each.map((one) => `${look(board, one.id).name}: ${one.words}`).join("; "), legend: names(board, each.map((one) => one.id)),
    });
  }));
}

/**
 * Return the reliability diagram of a chosen row, and the risk-coverage curves of all.
 * @param {Board} board
 * @param {Curves} curves
 */
export function calibration(board, curves) {
  if (!curves.reliability.length) return html("p", { class: "none" }, "Predictions are not available.");
  const place = html("div");
  const draw = (/** @type {string} */ id) => {
    const { points } = /** @type {Points} */ (curves.reliability.find((one) => one.id === id)), one = look(board, id);
    place.replaceChildren(chart({
      title: `Accuracy by confidence of ${one.name}, first seed`, file: "reliability", x: { title: "Confidence", unit: "%", least: 0, most: 100 }, y: { title: "Accuracy", unit: "%", least: 0, most: 100 },
      points: points.map(([x, y, low, high, images]) => ({ x, y, yEnds: /** @type {[number, number]} */ ([low, high]), colour: one.colour, draw: (left, top) => mark(one.row.kind, left, top, one.colour), about: `${images} images` })),
      lines: [{ points: [[0, 0], [100, 100]], colour: "var(--faint)", dash: "4 4", thin: true }],
      rows: [["confidence", "accuracy", "low", "high", "images"], ...points], note: "15 bins with 95 % Wilson intervals; on the dashed line, accuracy equals confidence.",
    }));
  };
  draw(curves.reliability[0].id);
  const risk = /** @type {{id: string, points: [number, number][]}[]} */ (/** @type {unknown} */ (curves.risk));
  return html("div", { class: "charts" },
    html("div", {}, html("p", { class: "controls" }, choice("Row", curves.reliability.map((one) => [one.id, look(board, one.id).name]), draw)), place),
    chart({
      title: "Error rate of the most confident predictions by their share of all", file: "risk-coverage", x: { title: "Coverage", unit: "% of test images" }, y: { title: "Error rate", unit: "%", least: 0 },
      lines: risk.map((one) => ({ ...look(board, one.id), points: one.points })),
      rows: [["row", "coverage", "error rate"], ...risk.flatMap((one) => one.points.map(([x, y]) => [look(board, one.id).name, x, y]))], note: "First seed of each row.", legend: names(board, risk.map((one) => one.id)),
    }));
}
