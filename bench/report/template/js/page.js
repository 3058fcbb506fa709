// Fills the charts of each table when it is first shown, and follows links to sections.

import { leaderboard } from "./board.js";
import { confusion } from "./confusion.js";
import { calibration, cost, latencies, learning } from "./curves.js";
import { explorer } from "./explorer.js";
import { gallery, unpacked } from "./images.js";
import { pairMatrix } from "./pairs.js";
import { prepare } from "./tables.js";

/** @type {string[]} */
const THUMBNAILS = JSON.parse(/** @type {HTMLElement} */ (document.getElementById("thumbnails")).textContent || "[]");

/**
 * Fill the charts of one table.
 * @param {HTMLElement} section
 */
function fill(section) {
  if (section.dataset.filled) return;
  section.dataset.filled = "yes";
  const content = JSON.parse(/** @type {HTMLElement} */ (section.querySelector("script.content")).textContent || "{}");
  const board = { rows: content.rows, metrics: content.metrics, colour: (/** @type {import("./looks.js").Row} */ row) => row.colour };
  const pictures = new Map(Object.entries(content.thumbnails).map(([id, number]) => [id, THUMBNAILS[Number(number)]]));
  const images = unpacked(board, content.predictions, content.classes, pictures, content.duplicates);
  const photos = gallery(board, images, content.missing);
  const show = (/** @type {import("./images.js").Filter} */ filter) => {
    photos.show(filter);
    open(/** @type {HTMLElement} */ (section.querySelector("[data-section=images]")));
  };
  /** @type {Record<string, () => HTMLElement>} */
  const charts = {
    leaderboard: () => leaderboard(board, content.pairs, content.picture),
    explorer: () => explorer(board),
    pairs: () => pairMatrix(board, content.pairs),
    confusion: () => confusion(images, show),
    images: () => photos.element,
    learning: () => learning(board, content.curves),
    cost: () => cost(board, content.curves),
    latency: () => latencies(board, content.curves),
    calibration: () => calibration(board, content.curves),
  };
  const draw = (/** @type {Element} */ place) => {
    const chart = charts[/** @type {HTMLElement} */ (place).dataset.chart || ""];
    if (chart && !place.hasChildNodes()) place.append(chart());
  };
  for (const place of section.querySelectorAll("[data-chart]")) {
    const folded = place.closest("details");
    // Only what is open is drawn, so that the first screen does not wait for the rest.
    if (folded && !folded.open) folded.addEventListener("toggle", () => draw(place), { once: true });
    else draw(place);
  }
  for (const image of /** @type {NodeListOf<HTMLImageElement>} */ (section.querySelectorAll("img[data-thumbnail]"))) image.src = THUMBNAILS[Number(image.dataset.thumbnail)];
  section.querySelectorAll("table:not(.board):not(.pairs)").forEach((table) => prepare(/** @type {HTMLTableElement} */ (table)));
}

/**
 * Unfold a section and go to it.
 * @param {HTMLElement} section
 */
function open(section) {
  const folded = section.querySelector("details");
  if (folded) folded.open = true;
  section.scrollIntoView({ block: "start" });
}

/**
 * Show one table and hide the others.
 * @param {string} number
 */
function choose(number) {
  for (const section of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("main.board-of"))) {
    section.hidden = section.dataset.board !== number;
    if (!section.hidden) fill(section);
  }
}

/** Follow the fragment of the address to its table and section. */
function follow() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const table = target && target.closest("main.board-of");
  if (!target || !table) return;
  const number = /** @type {HTMLElement} */ (table).dataset.board || "0";
  const select = /** @type {HTMLSelectElement | null} */ (document.getElementById("table"));
  if (select) select.value = number;
  choose(number);
  open(target);
}

const select = /** @type {HTMLSelectElement | null} */ (document.getElementById("table"));
if (select) select.addEventListener("change", () => { history.replaceState(null, "", location.pathname); choose(select.value); });
choose("0");
follow();
window.addEventListener("hashchange", follow);
window.addEventListener("beforeprint", () => document.querySelectorAll("main.board-of:not([hidden]) details").forEach((one) => { /** @type {HTMLDetailsElement} */ (one).open = true; }));
for (const link of document.querySelectorAll("nav.sections a")) link.addEventListener("click", () => setTimeout(follow));
const sections = [.../** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("section[data-section]"))];
const seen = new IntersectionObserver(() => {
  // The last section that begins in the upper third of the window is the one that is read.
  const read = sections.filter((one) => one.offsetParent && one.getBoundingClientRect().top < innerHeight / 3).pop();
  for (const link of document.querySelectorAll("nav.sections a")) {
    if (read && link.getAttribute("href") === `#${read.id}`) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}, { rootMargin: "0px 0px -66% 0px", threshold: [0, 0.1, 0.5, 1] });
sections.forEach((one) => seen.observe(one));
