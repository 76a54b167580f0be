// Columns and rows of the tables of traffic: by host, by route, by destination.

import { healthOf, SIGNS, tooFew } from "./health.js";
import { el, setAttribute, setText } from "./dom.js";
import { count, latency, percent, rate, shortHost } from "./format.js";
import { drawSpark } from "./spark.js";

const TOO_FEW = "Too few samples for this percentile: not one request is to be expected above it";

function percentile(key, label) {
  return {
    key, label, numeric: true,
    title: `Latency: ${label.slice(1)} % of the requests took no longer`,
    value: (row) => row[key] ?? null,
    fill(cell, row, parts) {
      const few = row[key] !== null && row[key] !== undefined && tooFew(row, key);
      setText(parts.text ??= cell.appendChild(el("span")), latency(row[key]));
      setAttribute(cell, "title", few ? TOO_FEW : null);
      setAttribute(cell, "class", few ? "number few" : "number");
      if (few && !parts.mark) parts.mark = cell.appendChild(el("span", { class: "few-mark" }, "few"));
      if (!few && parts.mark) {
        parts.mark.remove();
        parts.mark = null;
      }
    },
  };
}

/** A sign and a share of errors. */
function fillErrors(cell, row, parts) {
  const { level, word } = healthOf(row);
  parts.sign ??= cell.appendChild(el("span", { "aria-hidden": "true" }));
  parts.word ??= cell.appendChild(el("span", { class: "hidden" }));
  parts.text ??= cell.appendChild(el("span"));
  setText(parts.sign, `${SIGNS[level]} `);
  setAttribute(parts.sign, "class", `sign ${level}`);
  setText(parts.word, `${word}, `);
  setText(parts.text, row.requests === 0 ? "–" : percent(row.error_rate));
  setAttribute(cell, "title", `${word}: ${count(row.errors)} of ${count(row.requests)} requests failed`);
}

function figures(sparks) {
  return [
    {
      key: "spark", label: "5 min", numeric: false,
      fill: (cell, row, parts) => drawSpark(cell, sparks?.of(row.sparks) ?? null, parts),
    },
    { key: "rate", label: "Rate", numeric: true, title: "Requests per second", value: (row) => row.rate, text: (row) => rate(row.rate) },
    { key: "errors", label: "Errors", numeric: true, title: "Share of requests with a status of 500 or more, or none", value: (row) => row.error_rate, fill: fillErrors },
    percentile("p50", "p50"), percentile("p90", "p90"), percentile("p99", "p99"), percentile("p999", "p99.9"),
    { key: "max", label: "max", numeric: true, title: "The slowest request", value: (row) => row.max ?? null, text: (row) => latency(row.max) },
  ];
}

const text = (key, label, of) => ({ key, label, value: of, text: of });

/** Where requests of a route go. */
export function destinationOf(row) {
  if (row.destination === "-") return "answered by the gateway";
  if (!row.service) return "nowhere";
  return row.subset ? `${shortHost(row.service)} · ${row.subset}` : shortHost(row.service);
}

const routeOf = (row) => row.route || "(no name)";

/** The name of a route, and below it the VirtualService that it is from. */
function fillRoute(cell, row, parts) {
  parts.name ??= cell.appendChild(el("span"));
  parts.from ??= cell.appendChild(el("span", { class: "second" }));
  setText(parts.name, routeOf(row));
  setText(parts.from, row.virtual_service);
}

/** A route in one line, for lists of choices. */
export function titleOf(row) {
  return `${row.host} › ${routeOf(row)} › ${destinationOf(row)}`;
}

/** Columns by what the rows are. */
export function columnsOf(grouping, sparks) {
  const names = {
    host: [text("host", "Host", (row) => row.host)],
    route: [
      { key: "route", label: "Route", value: routeOf, fill: fillRoute },
      text("host", "Host", (row) => row.host),
      text("destination", "Destination", destinationOf),
    ],
    destination: [
      text("service", "Service", (row) => row.service),
      text("subset", "Subset", (row) => row.subset || "–"),
    ],
  };
  return [...names[grouping], ...figures(sparks)];
}

/** Ids of the graph's nodes. */
export const idOfRoute = (row) => `route:${row.host}|${row.virtual_service}|${row.route}`;
const idOfService = (service) => `service:${service}`;
const idOfSubset = (service, subset) => `subset:${service}|${subset}`;
/** The last node of the graph that counts a row of routes. */
export function idOfLast(row) {
  if (!row.service) return idOfRoute(row);
  return row.subset ? idOfSubset(row.service, row.subset) : idOfService(row.service);
}

/** Rows of `grouping` from what the gateway told. Percentiles of destinations come from the graph. */
export function rowsOf(grouping, live, graph) {
  if (grouping === "host") {
    return live.hosts.map((row) => ({ ...row, id: `host ${row.host}`, only: { host: row.host }, sparks: [`host ${row.host}`] }));
  }
  if (grouping === "route") {
    return live.routes.map((row) => ({ ...row, id: row.key, only: { key: row.key }, sparks: [row.key] }));
  }
  return destinations(live, graph);
}

function destinations(live, graph) {
  const nodes = new Map((graph?.nodes ?? []).map((node) => [node.id, node]));
  const divided = new Set(live.routes.filter((route) => route.subset).map((route) => route.service));
  // A service counts its subsets too: it tells of the requests without subset only when it has none.
  const nodeOf = ({ service, subset }) =>
    nodes.get(subset ? idOfSubset(service, subset) : divided.has(service) ? null : idOfService(service));
  const found = new Map();
  for (const route of live.routes) {
    if (!route.service) continue;
    const id = `${route.service} ${route.subset}`;
    const row = found.get(id);
    if (!row) {
      found.set(id, { ...route, id, key: route.key, sparks: [route.key] });
      continue;
    }
    row.sparks.push(route.key);
    for (const key of ["requests", "errors", "rate"]) row[key] += route[key];
    row.error_rate = row.requests > 0 ? row.errors / row.requests : 0;
    row.max = Math.max(row.max ?? 0, route.max ?? 0);
    // Percentiles of two routes do not add up: those of the graph's node count all of them.
    for (const key of ["p50", "p90", "p99", "p999"]) row[key] = nodeOf(route)?.[key] ?? null;
    row.too_few_for = nodeOf(route)?.too_few_for ?? null;
  }
  return [...found.values()].map((row) => ({ ...row, only: row.sparks.length === 1 ? { key: row.key } : null }));
}

/** Does a row hold every word that was typed? */
export function fits(row, typed) {
  const where = [row.host, row.route, row.virtual_service, row.service, row.subset, row.destination]
    .filter(Boolean).join(" ").toLowerCase();
  return typed.toLowerCase().split(/\s+/).every((word) => where.includes(word));
}
