// Percentile curves: latency over the share of requests that were no slower, an axis on which each
// further nine has the same room (docs/reading-histograms.md tells how to read them).

import { el, onWidth, svg } from "./dom.js";
import { latencyTick } from "./format.js";
import { tooFewAbove } from "./health.js";
import { linear, logarithmic } from "./scale.js";

export const TICKS = [0, 0.5, 0.9, 0.99, 0.999, 0.9999];
/** Where the axis ends, in nines. */
const NINES = 4.3;
const INSET = { left: 64, right: 14, top: 12, bottom: 40 };
const HEIGHT = 340;

/** `99.9 %` */
export function tickText(quantile) {
  return `${Number((quantile * 100).toFixed(4))}\u00a0%`;
}

const nines = (quantile) => Math.min(NINES, -Math.log10(Math.max(1 - quantile, 1e-9)));

/** The latency below which a share of the requests is, by the points of a curve. */
export function at(points, quantile) {
  const found = points.find(([share]) => share >= quantile - 1e-12);
  return found ? found[1] : null;
}

export class CurveChart {
  constructor() {
    this.curves = [];
    this.isLog = true;
    this.plot = svg("svg", { class: "plot curves", role: "img", height: HEIGHT });
    this.element = el("div", { class: "plot-holder" }, this.plot);
    onWidth(this.element, (width) => {
      this.width = width;
      this.draw();
    });
  }

  /** `curves`: { label, index, count, points: [[quantile, µs]] }. */
  update(curves, isLog) {
    [this.curves, this.isLog] = [curves, isLog];
    this.draw();
  }

  draw() {
    if (!this.width) return;
    const { width } = this;
    const [right, bottom] = [width - INSET.right, HEIGHT - INSET.bottom];
    const values = this.curves.flatMap((curve) => curve.points.map(([, us]) => us)).filter((us) => us > 0);
    const [low, high] = values.length > 0 ? [Math.min(...values), Math.max(...values)] : [100, 1e6];
    const scale = this.isLog ? logarithmic(low, high) : linear(high, 5);
    const x = (quantile) => INSET.left + (nines(quantile) / NINES) * (right - INSET.left);
    const y = (us) => bottom - Math.min(1, Math.max(0, scale.at(us))) * (bottom - INSET.top);
    const parts = [];
    for (const tick of scale.ticks) {
      parts.push(svg("line", { class: "grid", x1: INSET.left, x2: right, y1: y(tick), y2: y(tick) }));
      parts.push(svg("text", { class: "tick", x: INSET.left - 7, y: y(tick) + 4, "text-anchor": "end" }, latencyTick(tick)));
    }
    const room = (right - INSET.left) / NINES;
    for (const tick of TICKS) {
      parts.push(svg("line", { class: "grid", x1: x(tick), x2: x(tick), y1: INSET.top, y2: bottom }));
      parts.push(svg("text", { class: "tick x-tick", x: x(tick), y: bottom + 16, "text-anchor": "middle" },
        // On a phone there is no room for the first between its neighbours.
        room < 100 && (tick === 0.5 || (room < 62 && tick === 0.999)) ? "" : tickText(tick)));
    }
    const middle = (INSET.left + right) / 2;
    parts.push(svg("text", { class: "tick", x: middle, y: HEIGHT - 6, "text-anchor": "middle" }, "share of requests that were no slower"));
    for (const curve of this.curves) parts.push(...this.lineOf(curve, x, y));
    this.plot.replaceChildren(...parts);
    this.plot.setAttribute("width", width);
    this.plot.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    const names = this.curves.map((curve) => curve.label).join("; ");
    this.plot.setAttribute("aria-label", `Percentile curves of ${names || "nothing"}; the table below has the figures`);
  }

  lineOf(curve, x, y) {
    const points = curve.points.filter(([, us]) => us > 0);
    if (points.length === 0) return [];
    const enough = points.filter(([quantile]) => !tooFewAbove(curve.count, quantile));
    const few = points.slice(Math.max(enough.length - 1, 0));
    const path = (run) => `M${run.map(([quantile, us]) => `${x(quantile).toFixed(1)} ${y(us).toFixed(1)}`).join("L")}`;
    const name = `curve curve-${curve.index}`;
    const parts = [];
    if (few.length > 1) parts.push(svg("path", { class: `${name} few-samples`, d: path(few) }));
    if (enough.length > 0) parts.push(svg("path", { class: name, d: path(enough), "data-curve": curve.index }));
    return parts;
  }
}
