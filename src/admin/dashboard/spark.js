// Sparklines of the rows of a table: their series are asked for one after the other, the oldest first,
// so that a long table costs no more than a short one.

import * as api from "./api.js";
import { setAttribute, svg } from "./dom.js";

const WINDOW_S = 300;
const STALE_MS = 10_000;
/** Series asked for in one turn. */
const AT_ONCE = 4;
const ROWS_MAX = 40;
const [WIDTH, HEIGHT, BINS] = [96, 22, 48];

export class Sparks {
  constructor() {
    this.known = new Map();
  }

  /** Ask for the series of the first rows that are stale. `only`: { key } or { host }. */
  async refresh(wanted) {
    const now = Date.now();
    const stale = wanted.slice(0, ROWS_MAX)
      .filter(({ id }) => now - (this.known.get(id)?.at ?? 0) > STALE_MS)
      .sort((one, other) => (this.known.get(one.id)?.at ?? 0) - (this.known.get(other.id)?.at ?? 0))
      .slice(0, AT_ONCE);
    for (const { id, only } of stale) {
      const { series } = await api.live(WINDOW_S, only);
      this.known.set(id, { at: now, bins: bins(series) });
    }
    return stale.length > 0;
  }

  /** Requests per bin of the last minutes, or null before they are known. */
  of(ids) {
    const found = ids.map((id) => this.known.get(id)?.bins).filter(Boolean);
    if (found.length === 0) return null;
    return found.reduce((sum, one) => sum.map((value, index) => value + one[index]));
  }
}

/** A series in a fixed number of bins, the last one at the end. */
function bins(series) {
  const sums = new Array(BINS).fill(0);
  const end = series.at(-1)?.t ?? 0;
  for (const { t, requests } of series) {
    const bin = BINS - 1 - Math.floor((end - t) / ((WINDOW_S * 1000) / BINS));
    if (bin >= 0) sums[bin] += requests;
  }
  return sums;
}

/** Draw into a cell. `parts` keeps the elements between calls. */
export function drawSpark(cell, values, parts) {
  if (!parts.line) {
    parts.area = svg("path", { class: "spark-area" });
    parts.line = svg("path", { class: "spark-line" });
    cell.append(svg("svg", {
      class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT, "aria-hidden": "true",
    }, parts.area, parts.line));
  }
  if (!values) return;
  const top = Math.max(...values, 1e-9);
  const points = values.map((value, index) => {
    const x = (index / (values.length - 1)) * WIDTH;
    return `${x.toFixed(1)} ${(HEIGHT - 1.5 - (value / top) * (HEIGHT - 4)).toFixed(1)}`;
  });
  setAttribute(parts.line, "d", `M${points.join("L")}`);
  setAttribute(parts.area, "d", `M0 ${HEIGHT}L${points.join("L")}L${WIDTH} ${HEIGHT}Z`);
}
