// Overview: the figures of now, their last minutes, and a table by host, route or destination.

import * as api from "./api.js";
import { choice, el, empty, setAttribute, setText } from "./dom.js";
import { count, latency, latencyTick, percent, rate, rateTick, span } from "./format.js";
import { healthOf, SIGNS, tooFew } from "./health.js";
import { Table } from "./table.js";
import { TimeChart } from "./timechart.js";
import { columnsOf, fits, rowsOf, titleOf } from "./traffic.js";

const FIGURES = [
  ["rate", "Requests", (stats) => rate(stats.rate)],
  ["error_rate", "Errors", (stats) => percent(stats.error_rate)],
  ["p50", "p50", (stats) => latency(stats.p50)],
  ["p90", "p90", (stats) => latency(stats.p90)],
  ["p99", "p99", (stats) => latency(stats.p99)],
  ["p999", "p99.9", (stats) => latency(stats.p999)],
  ["max", "max", (stats) => latency(stats.max)],
];
const CAPTIONS = {
  host: "Traffic by host", route: "Traffic by route", destination: "Traffic by destination",
};

export function mount(root, app) {
  const { sparks } = app;
  let grouping = "route";
  let chosen = null;
  let table = null;

  const scope = el("h2", { id: "scope" }, "All traffic");
  const clear = el("button", { type: "button", class: "quiet", hidden: true, onclick: () => pick(null) }, "Show all traffic");
  const figures = FIGURES.map(([key, label]) => {
    const [value, note] = [el("dd", { "data-figure": key }, "–"), el("dd", { class: "note-line" })];
    return { value, note, element: el("div", null, el("dt", null, label), value, note) };
  });
  const requests = new TimeChart("Requests per second", [
    { label: "all", class: "series-rate", area: true, value: (point) => point.rate },
    { label: "errors", class: "series-errors", area: true, value: (point) => point.failed },
  ], rate, rateTick);
  const latencies = new TimeChart("Latency", [
    { label: "p50", class: "series-p50", value: (point) => point.p50 },
    { label: "p99", class: "series-p99", value: (point) => point.p99 },
  ], latency, latencyTick);
  const filter = el("input", {
    type: "search", id: "filter", placeholder: "Filter: host, route, service, subset", "aria-label": "Filter the table",
    autocomplete: "off", spellcheck: "false", oninput: () => drawTable(),
  });
  const holder = el("div");
  const matches = el("p", { class: "muted", role: "status" });
  const nothing = empty("No requests yet",
    el("p", null, "Send one through the gateway, for example:"),
    el("pre", null, "curl -H 'Host: hello.com' http://GATEWAY:8080/"),
    el("p", null, "If requests should be arriving, ",
      el("a", { href: "#explain" }, "explain one"), " to see where it goes, or look at the ",
      el("a", { href: "#problems" }, "problems of the configuration"), "."));
  const body = el("div", null,
    el("div", { class: "charts" }, requests.element, latencies.element),
    el("div", { class: "toolbar" },
      choice("Group by", "grouping", [["host", "Hosts"], ["route", "Routes"], ["destination", "Destinations"]],
        grouping, regroup),
      filter, matches),
    holder);
  const strip = el("dl", { class: "figures card", "aria-labelledby": "scope" }, figures.map((one) => one.element));
  root.append(el("div", { class: "heading" }, scope, clear), strip, nothing, body);
  root.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && chosen) pick(null);
  });

  function regroup(value) {
    grouping = value;
    chosen = null;
    makeTable();
    app.refresh();
  }

  function pick(row) {
    chosen = row;
    if (!row) table.select(null);
    app.refresh();
  }

  function makeTable() {
    table = new Table({
      caption: CAPTIONS[grouping], columns: columnsOf(grouping, sparks), keyOf: (row) => row.id,
      sort: { key: "rate", descending: true }, onselect: pick,
    });
    table.element.classList.add("cards");
    holder.replaceChildren(table.element);
  }

  function drawTable() {
    if (!app.live) return;
    const rows = rowsOf(grouping, app.live, app.graphOfNow);
    const fitting = rows.filter((row) => fits(row, filter.value.trim()));
    table.update(fitting);
    setText(matches, fitting.length === rows.length ? "" : `${count(fitting.length)} of ${count(rows.length)} rows`);
  }

  function drawFigures() {
    const { live } = app;
    const rows = chosen ? rowsOf(grouping, live, app.graphOfNow) : [];
    const idle = { requests: 0, rate: 0, errors: 0, error_rate: 0 };
    const stats = chosen ? rows.find((row) => row.id === chosen.id) ?? idle : live.total;
    setText(scope, !chosen ? "All traffic" : grouping === "host" ? chosen.host : titleOf(chosen));
    clear.hidden = !chosen;
    const health = healthOf(stats);
    FIGURES.forEach(([key, , figure], index) => {
      const few = stats[key] !== null && tooFew(stats, key);
      setText(figures[index].value, figure(stats));
      setAttribute(figures[index].element, "class", key === "error_rate" ? health.level : null);
      let note = few ? "too few samples" : "";
      if (key === "rate") note = `${count(stats.requests)} in ${span(live.covered_s ?? live.window_s)}`;
      if (key === "error_rate") note = `${SIGNS[health.level]} ${health.word}`;
      setText(figures[index].note, note);
    });
  }

  /** The series of what is chosen. Routes to one destination are added; their percentiles cannot be. */
  async function seriesOf() {
    if (!chosen || chosen.only) return app.live.series;
    const all = await Promise.all(chosen.sparks.map((key) => api.live(app.window, { key })));
    const sums = new Map();
    for (const point of all.flatMap((one) => one.series)) {
      const sum = sums.get(point.t) ?? { t: point.t, requests: 0, errors: 0, p50: null, p99: null };
      sum.requests += point.requests;
      sum.errors += point.errors;
      sums.set(point.t, sum);
    }
    return [...sums.values()].sort((one, other) => one.t - other.t);
  }

  function drawCharts(series) {
    const { live } = app;
    const step = live.step_s || 1;
    const points = series.map((point) => ({
      ...point, rate: point.requests / step, failed: point.errors / step,
    }));
    const until = live.now_unix_ms;
    for (const chart of [requests, latencies]) chart.update(points, until - live.window_s * 1000, until);
  }

  makeTable();
  return {
    /** What the next live figures are asked for beside the totals. */
    only: () => chosen?.only ?? {},
    async refresh() {
      const quiet = app.live.routes.length === 0 && app.live.total.requests === 0;
      nothing.hidden = !quiet;
      body.hidden = quiet;
      if (grouping === "destination") app.graphOfNow = await api.graph(app.window);
      drawFigures();
      drawCharts(await seriesOf());
      drawTable();
      const wanted = table.shown.flatMap((row) => row.sparks.map((id) => ({
        id, only: grouping === "host" ? { host: row.host } : { key: id },
      })));
      if (await sparks.refresh(wanted)) drawTable();
    },
  };
}
