// Figures over time: lines or areas with an axis, and the figures under the pointer.

import { el, onWidth, setText, svg } from "./dom.js";
import { clock } from "./format.js";
import { linear } from "./scale.js";

const HEIGHT = 150;
const INSET = { left: 58, right: 10, top: 8, bottom: 22 };

export class TimeChart {
  /** `lines`: { label, class, area, value(point) → number or null }. `format(value)` for figures, `tick(value)` for the axis. */
  constructor(title, lines, format, tick) {
    this.lines = lines;
    this.format = format;
    this.tick = tick;
    this.points = [];
    this.plot = svg("svg", { class: "plot", role: "img", height: HEIGHT });
    this.figures = lines.map(() => el("b", null, ""));
    this.time = el("span", { class: "chart-time" });
    const legend = lines.map((line, index) =>
      el("span", { class: `key ${line.class}` }, el("i"), line.label, " ", this.figures[index]));
    this.title = title;
    this.holder = el("div", { class: "plot-holder" }, this.plot);
    this.element = el("figure", { class: "card chart" },
      el("figcaption", null, el("span", { class: "chart-title" }, title), legend, this.time), this.holder);
    this.plot.addEventListener("pointermove", (event) => this.point(event));
    this.plot.addEventListener("pointerleave", () => this.showAt(null));
    onWidth(this.holder, (width) => {
      this.width = width;
      this.draw();
    });
  }

  update(points, fromMs, untilMs) {
    this.points = points.filter((point) => point.t >= fromMs);
    [this.from, this.until] = [fromMs, untilMs];
    this.draw();
  }

  draw() {
    if (!this.width || this.from === undefined) return;
    const { points, width, lines } = this;
    const [right, bottom] = [width - INSET.right, HEIGHT - INSET.bottom];
    const values = points.flatMap((point) => lines.map((line) => line.value(point))).filter((v) => v !== null);
    const scale = linear(Math.max(...values, 0), 3);
    const span = Math.max(this.until - this.from, 1);
    this.x = (t) => INSET.left + ((t - this.from) / span) * (right - INSET.left);
    this.y = (value) => bottom - scale.at(value) * (bottom - INSET.top);
    const parts = scale.ticks.map((tick) => [
      svg("line", { class: "grid", x1: INSET.left, x2: right, y1: this.y(tick), y2: this.y(tick) }),
      svg("text", { class: "tick", x: INSET.left - 7, y: this.y(tick) + 4, "text-anchor": "end" }, this.tick(tick)),
    ]).flat();
    const marks = width > 420 ? 4 : 2;
    for (let index = 0; index <= marks; index += 1) {
      const t = this.from + (span * index) / marks;
      const anchor = index === 0 ? "start" : index === marks ? "end" : "middle";
      parts.push(svg("text", { class: "tick", x: this.x(t), y: HEIGHT - 5, "text-anchor": anchor }, clock(t)));
    }
    for (const line of lines) parts.push(...this.lineOf(line, bottom));
    this.cursor = svg("line", { class: "cursor", y1: INSET.top, y2: bottom, visibility: "hidden" });
    this.plot.replaceChildren(...parts, this.cursor);
    this.plot.setAttribute("width", width);
    this.plot.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.showAt(null);
  }

  lineOf(line, bottom) {
    // A step without requests has no latency: the line has a gap there.
    const runs = [[]];
    for (const point of this.points) {
      const value = line.value(point);
      if (value === null) {
        if (runs.at(-1).length > 0) runs.push([]);
      } else {
        runs.at(-1).push([this.x(point.t), this.y(value)]);
      }
    }
    const parts = [];
    for (const run of runs.filter((run) => run.length > 0)) {
      const path = run.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L");
      if (line.area) {
        const area = `M${run[0][0].toFixed(1)} ${bottom}L${path}L${run.at(-1)[0].toFixed(1)} ${bottom}Z`;
        parts.push(svg("path", { class: `area ${line.class}`, d: area }));
      }
      parts.push(svg("path", { class: `line ${line.class}`, d: `M${path}${run.length === 1 ? "h2" : ""}` }));
    }
    return parts;
  }

  point(event) {
    const x = event.clientX - this.plot.getBoundingClientRect().left;
    const nearest = this.points.reduce((best, point) =>
      best === null || Math.abs(this.x(point.t) - x) < Math.abs(this.x(best.t) - x) ? point : best, null);
    this.showAt(nearest);
  }

  showAt(point) {
    const shown = point ?? this.points.at(-1);
    this.lines.forEach((line, index) => setText(this.figures[index], shown ? this.format(line.value(shown)) : "–"));
    setText(this.time, point ? clock(point.t) : "");
    const said = this.lines.map((line, index) => `${line.label} ${this.figures[index].textContent}`);
    this.plot.setAttribute("aria-label", `${this.title}: ${said.join(", ")}`);
    if (!this.cursor) return;
    this.cursor.setAttribute("visibility", point ? "visible" : "hidden");
    if (point) {
      this.cursor.setAttribute("x1", this.x(point.t));
      this.cursor.setAttribute("x2", this.x(point.t));
    }
  }
}
