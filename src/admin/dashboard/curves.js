// Latency: percentile curves of routes and destinations laid over each other, or of one at two times.

import * as api from "./api.js";
import { choice, el, empty, scroller, setAttribute } from "./dom.js";
import { at, CurveChart, TICKS, tickText } from "./curve_chart.js";
import { clock, count, latency, NONE, percent, plural, span } from "./format.js";
import { tooFewAbove } from "./health.js";
import { titleOf } from "./traffic.js";

const CURVES_MAX = 6;
const TIMES = [
  ["0", "now"], ["60", "1 min ago"], ["300", "5 min ago"], ["900", "15 min ago"], ["1800", "30 min ago"], ["3600", "an hour ago"], ["at", "picked time"],
];

export function mount(root, app) {
  const chart = new CurveChart();
  let isLog = true;
  /** What is compared: { key, when, picked, index, and its elements }. */
  let wanted = [];
  let routes = new Map();
  let turn = 0;

  const list = el("ul", { class: "comparison" });
  const add = el("button", {
    type: "button",
    onclick: () => {
      addCurve();
      app.refresh();
    },
  }, "Add curve");
  const past = el("button", { type: "button", onclick: againstPast }, "Now against an hour ago");
  const canary = el("button", { type: "button", onclick: againstSubsets }, "Compare subsets");
  const notes = el("div", { role: "status" });
  const figures = el("tbody");
  const heads = el("tr");
  const caption = el("caption", null, "Latency at percentiles");
  const table = el("table", { class: "compact" }, caption, el("thead", null, heads), figures);
  const nothing = empty("No latencies yet",
    el("p", null, "A curve needs requests. Send some through the gateway, or choose a longer time window above."));
  const body = el("div", null,
    el("div", { class: "card" }, el("h2", null, "Compare"), list,
      el("div", { class: "toolbar" }, add, canary, past,
        choice("Latency axis", "axis", [["log", "Log"], ["linear", "Linear"]], "log", (value) => {
          isLog = value === "log";
          app.refresh();
        }))),
    notes,
    el("figure", { class: "card" }, el("figcaption", { class: "chart-title" }, "Latency by percentile"), chart.element),
    scroller("Latency at percentiles", table));
  root.append(nothing, body);

  function nextIndex() {
    return [...Array(CURVES_MAX).keys()].find((index) => !wanted.some((one) => one.index === index));
  }

  function addCurve(key, when = "0") {
    if (wanted.length >= CURVES_MAX) return;
    const used = new Set(wanted.map((one) => one.key));
    const free = busiest().find((row) => !used.has(row.key)) ?? busiest()[0];
    const one = { key: key ?? free?.key, when, index: nextIndex() };
    wanted.push(one);
    one.route = el("select", {
      "aria-label": `Route of curve ${one.index + 1}`,
      onchange: (event) => change(one, { key: event.target.value }),
    });
    one.time = el("select", {
      "aria-label": `Time of curve ${one.index + 1}`,
      onchange: (event) => change(one, { when: event.target.value }),
    }, TIMES.map(([value, label]) => el("option", { value, selected: value === when }, label)));
    one.at = el("input", {
      type: "datetime-local", step: 1, hidden: true, "aria-label": `End of the time span of curve ${one.index + 1}`,
      onchange: (event) => change(one, { picked: new Date(event.target.value).getTime() }),
    });
    const remove = el("button", {
      type: "button", class: "quiet", "aria-label": `Remove curve ${one.index + 1}`,
      onclick: () => {
        wanted = wanted.filter((other) => other !== one);
        one.element.remove();
        add.focus();
        app.refresh();
      },
    }, "Remove");
    one.element = el("li", null, swatch(one.index), one.route, one.time, one.at, remove);
    list.append(one.element);
    fillRoutes(one);
  }

  function swatch(index) {
    return el("span", { class: `swatch swatch-${index}` }, el("i"), String(index + 1));
  }

  function change(one, values) {
    Object.assign(one, values);
    if (one.when === "at" && !one.picked) {
      one.picked = Date.now();
      const local = new Date(one.picked - new Date().getTimezoneOffset() * 60_000);
      one.at.value = local.toISOString().slice(0, 19);
    }
    one.at.hidden = one.when !== "at";
    app.refresh();
  }

  function replaceAll(curves) {
    for (const one of wanted) one.element.remove();
    wanted = [];
    for (const [key, when] of curves) addCurve(key, when);
    app.refresh();
  }

  const busiest = () => [...routes.values()].sort((one, other) => other.requests - one.requests);

  function againstPast() {
    const key = wanted[0]?.key ?? busiest()[0]?.key;
    if (key) replaceAll([[key, "0"], [key, "3600"]]);
  }

  /** The subsets between which a route divides its requests: of the first curve's route, or of the busiest. */
  function siblings() {
    const groups = new Map();
    for (const row of busiest().filter((row) => row.service)) {
      const group = `${row.host} ${row.virtual_service} ${row.route}`;
      groups.set(group, [...(groups.get(group) ?? []), row]);
    }
    const divided = [...groups.values()].filter((rows) => rows.length > 1);
    return divided.find((rows) => rows.some((row) => row.key === wanted[0]?.key)) ?? divided[0] ?? [];
  }

  function againstSubsets() {
    const rows = [...siblings()].sort((one, other) => one.subset.localeCompare(other.subset));
    replaceAll(rows.slice(0, CURVES_MAX).map((row) => [row.key, "0"]));
  }

  function fillRoutes(one) {
    const rows = [...routes.values()].sort((a, b) => titleOf(a).localeCompare(titleOf(b)));
    if (one.key && !routes.has(one.key)) rows.push({ key: one.key, host: "(no requests now)", route: one.key });
    const known = [...one.route.options].map((option) => option.value).join();
    if (known !== rows.map((row) => row.key).join()) {
      one.route.replaceChildren(...rows.map((row) => el("option", { value: row.key }, row.service === undefined ? row.host : titleOf(row))));
    }
    one.route.value = one.key ?? "";
  }

  const until = (one) => {
    if (one.when === "0") return null;
    return one.when === "at" ? one.picked : app.live.now_unix_ms - Number(one.when) * 1000;
  };

  async function refresh() {
    if (!app.live) return;
    routes = new Map(app.live.routes.map((row) => [row.key, row]));
    const quiet = routes.size === 0 && wanted.length === 0;
    nothing.hidden = !quiet;
    body.hidden = quiet;
    if (quiet) return;
    if (wanted.length === 0) addCurve();
    wanted.forEach(fillRoutes);
    const divided = siblings();
    canary.disabled = divided.length < 2;
    setAttribute(canary, "title", canary.disabled ? "No route divides its requests between subsets" : null);
    add.disabled = wanted.length >= CURVES_MAX;
    turn += 1;
    const own = turn;
    const curves = await Promise.all(wanted.map(async (one) => {
      const row = routes.get(one.key);
      const what = row ? `${row.route || "(no name)"}${row.subset ? ` · ${row.subset}` : ""}` : "route";
      const when = TIMES.find(([value]) => value === one.when)[1];
      const label = `${what}, ${one.when === "at" ? clock(one.picked) : when}`;
      try {
        return { ...(await api.curve(one.key, app.window, until(one))), label, index: one.index };
      } catch (error) {
        if (!(error instanceof api.Refused)) throw error;
        return { label, index: one.index, count: 0, points: [], refused: error.message };
      }
    }));
    // A later choice has its own answer on the way.
    if (own !== turn) return;
    chart.update(curves, isLog);
    drawNotes(curves);
    drawTable(curves);
  }

  function drawNotes(curves) {
    const texts = curves.filter((curve) => curve.count === 0).map((curve) => {
      const kept = app.live.kept_s ?? app.live.uptime_s;
      return `Curve ${curve.index + 1} (${curve.label}): no requests then. What is kept reaches ${span(kept)} back.`;
    });
    const few = curves.filter((curve) => curve.count > 0 && tooFewAbove(curve.count, 0.99));
    for (const curve of few) {
      texts.push(`Curve ${curve.index + 1} has ${plural(curve.count, "request")}: too few samples for its tail (dotted). Choose a longer window.`);
    }
    const text = texts.join("\n");
    if (notes.dataset.text === text) return;
    notes.dataset.text = text;
    notes.replaceChildren(...texts.map((text) => el("p", { class: "notice" }, text)));
  }

  function drawTable(curves) {
    const compares = curves.length === 2;
    heads.replaceChildren(el("th", { scope: "col" }, "Percentile"),
      ...curves.map((curve) => el("th", { scope: "col", class: "number" }, swatch(curve.index), " ", curve.label)),
      ...(compares ? [el("th", { scope: "col", class: "number" }, "Difference")] : []));
    const rows = TICKS.map((tick) => {
      const values = curves.map((curve) => (curve.count > 0 ? at(curve.points, tick) : null));
      const few = curves.map((curve) => curve.count > 0 && tooFewAbove(curve.count, tick));
      const cells = values.map((value, index) => el("td", { class: few[index] ? "number few" : "number" },
        latency(value), few[index] ? el("span", { class: "few-mark" }, "few") : null));
      return [tick === 0 ? "min" : tickText(tick), cells, compares ? difference(values) : null];
    });
    const max = curves.map((curve) => (curve.count > 0 ? curve.points.at(-1)?.[1] ?? null : null));
    rows.push(["max", max.map((value) => el("td", { class: "number" }, latency(value))), compares ? difference(max) : null]);
    const counts = curves.map((curve) => el("td", { class: "number" }, count(curve.count)));
    rows.push(["requests", counts, compares ? "" : null]);
    figures.replaceChildren(...rows.map(([name, cells, change]) => el("tr", null, el("th", { scope: "row" }, name), cells,
      change === null ? null : el("td", { class: "number" }, change))));
  }

  /** How much slower the second is than the first. */
  function difference([one, other]) {
    if (one === null || other === null || one === 0) return NONE;
    const share = other / one - 1;
    if (Math.abs(share) < 0.005) return "same";
    return `${share > 0 ? "+" : "−"}${percent(Math.abs(share))}`;
  }

  return { refresh };
}
