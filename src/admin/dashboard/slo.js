// Objectives: how much of the error budget is left, and how fast it burns.

import * as api from "./api.js";
import { el, empty } from "./dom.js";
import { count, NONE, percent, span } from "./format.js";

const EXAMPLE = `apiVersion: ringress.io/v1alpha1
kind: ServiceLevelObjective
metadata: {name: hello-availability}
spec:
  host: hello.com
  availability: 99.9
  window: 30d
---
apiVersion: ringress.io/v1alpha1
kind: ServiceLevelObjective
metadata: {name: hello-latency}
spec:
  host: hello.com
  latency: {threshold: 250ms, target: 99}
  window: 30d`;

const ALERTS = {
  page: ["bad", "✖ page: the budget burns fast"],
  ticket: ["warn", "▲ ticket: the budget burns slowly"],
};

/** Burn above which the budget is spent before its window ends. */
const SUSTAINABLE = 1;

function budget(slo) {
  const left = slo.budget_remaining;
  if (left === null) return el("p", { class: "muted" }, "No requests yet: nothing of the budget is spent.");
  const [level, word] = left < 0 ? ["bad", "overspent"] : left < 0.25 ? ["warn", "nearly spent"] : ["ok", "left"];
  const label = left < 0 ? `${percent(-left)} ${word}` : `${percent(left)} ${word}`;
  const meter = el("div", {
    class: `meter ${level}`, role: "meter", "aria-label": `Error budget of ${slo.name}`, "aria-valuemin": 0, "aria-valuemax": 100,
    "aria-valuenow": Math.round(Math.max(0, Math.min(1, left)) * 100), "aria-valuetext": label,
  }, el("i"));
  meter.firstChild.style.width = `${Math.max(0, Math.min(1, left)) * 100}%`;
  return el("div", null, el("p", { class: "budget" }, "Error budget: ", el("b", null, label)), meter);
}

function burns(slo) {
  const cells = slo.burn_rates.map(({ window_s, rate }) => {
    const fast = rate !== null && rate > SUSTAINABLE;
    return el("div", { class: fast ? "fast" : null }, el("dt", null, span(window_s)),
      el("dd", null, rate === null ? NONE : `${fast ? "▲ " : ""}${Number(rate.toPrecision(3))}×`));
  });
  return el("dl", { class: "inline burns", "aria-label": "Burn rates" }, cells);
}

function card(slo) {
  const what = slo.kind === "latency"
    ? `${percent(slo.objective)} of requests within ${slo.threshold_ms} ms`
    : `${percent(slo.objective)} of requests without error`;
  const whose = [slo.host, slo.route].filter(Boolean).join(" › ") || "all requests";
  const [level, alert] = ALERTS[slo.alert] ?? (slo.total > 0 ? ["ok", "● no alert"] : ["idle", "○ no requests yet"]);
  return el("article", { class: "card slo", "data-slo": slo.name },
    el("h3", null, slo.name),
    el("p", { class: `badge ${level}` }, alert),
    el("p", null, what, el("span", { class: "muted" }, ` over ${span(slo.window_s)}, ${whose}`)),
    budget(slo),
    el("p", { class: "muted" }, `Kept: ${slo.ratio === null ? NONE : percent(slo.ratio)} (${count(slo.good)} of ${count(slo.total)}). Seen for ${span(slo.observed_s)} of ${span(slo.window_s)}.`),
    burns(slo));
}

export function mount(root) {
  const list = el("div", { class: "slo-list" });
  const errors = el("div", { role: "alert" });
  let last = "";
  root.append(
    el("div", { class: "heading" }, el("h2", null, "Service level objectives"),
      el("a", { href: "../api/slos/rules" }, "Prometheus alert rules")),
    el("p", { class: "muted" }, "A burn rate of 1× spends the budget just when its window ends; more than that spends it before."),
    errors, list);
  return {
    async refresh() {
      const page = await api.slos();
      const text = JSON.stringify(page);
      // Drawn anew only when something has changed: what is selected stays selected.
      if (text === last) return;
      last = text;
      errors.replaceChildren(...page.errors.map((error) => el("p", { class: "notice bad" }, `✖ ${error}`)));
      const rank = { page: 0, ticket: 1 };
      const slos = [...page.slos].sort((one, other) => (rank[one.alert] ?? 2) - (rank[other.alert] ?? 2));
      list.replaceChildren(...(slos.length > 0 ? slos.map(card) : [empty("No objectives yet",
        el("p", null, "Write them into a file beside the manifests; they are taken over on the spot:"),
        el("pre", null, EXAMPLE))]));
    },
  };
}
