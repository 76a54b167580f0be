// The service graph: gateway → host → route → service → subset → endpoints. Thickness is the rate,
// colour and sign are the health. A node can be focused, and chosen to filter the table below.

import * as api from "./api.js";
import { choice, el, empty, scroller, setAttribute, setText, svg } from "./dom.js";
import { count, latency, percent, plural, rate, shortHost } from "./format.js";
import { layOut, NODE, pathOf, pathThrough } from "./graph_layout.js";
import { healthOf, SIGNS } from "./health.js";
import { Table } from "./table.js";
import { columnsOf, idOfLast, idOfRoute, rowsOf } from "./traffic.js";

const HEADINGS = {
  gateway: "Gateway", host: "Hosts", route: "Routes", service: "Services", subset: "Subsets", endpoint: "Endpoints",
};
/** Letters of a label that fit into a node. */
const LETTERS = 17;

export function mount(root, app) {
  let most = 12;
  let graph = null;
  let laid = null;
  let pinned = null;
  let hovered = null;
  let drawn = { signature: "", nodes: new Map(), edges: new Map() };

  const plot = svg("svg", { class: "graph", role: "group", "aria-label": "Service graph" });
  const leftOut = el("p", { class: "muted", role: "status" });
  const details = el("div", { class: "details card", role: "status" });
  const area = scroller("Service graph, scrolls sideways", plot);
  area.classList.add("graph-area");
  const nothing = empty("Nothing is routed yet",
    el("p", null, "Write a Gateway and a VirtualService into the folder that the gateway reads; they are taken over on the spot. ",
      el("a", { href: "#problems" }, "Problems"), " tells what was refused."));
  const table = new Table({
    caption: "Routes through the chosen node", columns: columnsOf("route", app.sparks), keyOf: (row) => row.id,
    sort: { key: "rate", descending: true },
  });
  table.element.classList.add("cards");
  const legend = el("p", { class: "legend muted" },
    ...["ok", "warn", "bad", "idle"].map((level) => el("span", null,
      el("span", { class: `sign ${level}`, "aria-hidden": "true" }, SIGNS[level]),
      { ok: " healthy", warn: " 1 % errors or more", bad: " 5 % errors or more, not ready, ejected", idle: " no traffic" }[level])),
    el("span", null, "thickness: rate"));
  const body = el("div", null,
    el("div", { class: "toolbar" },
      choice("Nodes a column", "most", [["12", "Top 12"], ["30", "Top 30"], ["100000", "All"]], "12", (value) => {
        most = Number(value);
        draw();
      }), legend),
    leftOut, area, details, table.element);
  root.append(nothing, body);
  root.addEventListener("keydown", (event) => {
    if (event.key === "Escape") choose(null);
    if (event.key.startsWith("Arrow")) walk(event);
  });

  function choose(id) {
    pinned = id;
    highlight();
    drawTable();
  }

  /** Arrow keys go to the next node of the column, or to the neighbour in the next one. */
  function walk(event) {
    const id = event.target.getAttribute?.("data-id");
    if (!id || !laid) return;
    const at = laid.columns.findIndex((column) => column.nodes.some((node) => node.id === id));
    const place = laid.columns[at].nodes.findIndex((node) => node.id === id);
    const neighbour = (from, to) => laid.edges.filter((edge) => edge[from] === id)
      .sort((one, other) => (other.rate ?? 0) - (one.rate ?? 0)).map((edge) => edge[to])[0];
    const next = {
      ArrowUp: () => laid.columns[at].nodes[place - 1]?.id,
      ArrowDown: () => laid.columns[at].nodes[place + 1]?.id,
      ArrowRight: () => neighbour("from", "to"),
      ArrowLeft: () => neighbour("to", "from"),
    }[event.key]?.();
    if (next === undefined) return;
    event.preventDefault();
    drawn.nodes.get(next).element.focus();
  }

  function draw() {
    laid = layOut(graph, most);
    if (pinned && !laid.nodes.has(pinned)) pinned = null;
    const places = [...laid.nodes.values()].map((node) => `${node.id} ${node.x} ${node.y}`);
    const signature = JSON.stringify([places, laid.edges.map((edge) => edge.id)]);
    if (signature !== drawn.signature) build(signature);
    const top = Math.max(...laid.edges.map((edge) => edge.rate ?? 0), 1e-9);
    for (const edge of laid.edges) drawEdge(drawn.edges.get(edge.id), edge, top);
    for (const node of laid.nodes.values()) drawNode(drawn.nodes.get(node.id), node);
    highlight();
    drawTable();
  }

  function build(signature) {
    const focused = document.activeElement?.getAttribute?.("data-id");
    drawn = { signature, nodes: new Map(), edges: new Map() };
    const lines = laid.edges.map((edge) => {
      const line = svg("path", { d: pathOf(edge, laid.nodes) });
      drawn.edges.set(edge.id, line);
      return line;
    });
    const nodes = laid.columns.flatMap((column) => column.nodes.map(buildNode));
    const heads = laid.columns.map((column) =>
      svg("text", { class: "column-head", x: column.x + 2, y: 14 }, HEADINGS[column.kind]));
    plot.replaceChildren(svg("g", { class: "edges" }, lines), ...heads, ...nodes);
    setAttribute(plot, "viewBox", `0 0 ${laid.width} ${laid.height}`);
    setAttribute(plot, "width", laid.width);
    setAttribute(plot, "height", laid.height);
    if (focused) drawn.nodes.get(focused)?.element.focus();
  }

  function buildNode(node) {
    const parts = {
      box: svg("rect", { class: "box", width: NODE.width, height: NODE.height, rx: 5 }),
      bar: svg("rect", { width: 4, height: NODE.height - 8, x: 4, y: 4, rx: 2 }),
      sign: svg("text", { x: 15, y: 17 }),
      label: svg("text", { class: "node-label", y: 17 }),
      figures: svg("text", { class: "node-figures", y: 32 }),
      title: svg("title"),
    };
    parts.element = svg("g", {
      class: "node", transform: `translate(${node.x} ${node.y})`, tabindex: 0, role: "button", "data-id": node.id,
      onclick: () => choose(pinned === node.id ? null : node.id),
      onkeydown: (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        choose(pinned === node.id ? null : node.id);
      },
      onpointerenter: () => hover(node.id), onpointerleave: () => hover(null),
      onfocus: () => hover(node.id), onblur: () => hover(null),
    }, parts.title, parts.box, parts.bar, parts.sign,
    // Clips what is too long for the node.
    svg("svg", { x: 29, width: NODE.width - 35, height: NODE.height }, parts.label, parts.figures));
    drawn.nodes.set(node.id, parts);
    return parts.element;
  }

  function drawEdge(line, edge, top) {
    // Requests are counted by destination, not by endpoint: the last edges have no rate.
    const { level } = edge.rate === null ? { level: "uncounted" } : healthOf(edge);
    setAttribute(line, "class", `edge ${level}`);
    setAttribute(line, "stroke-width", !edge.rate ? 1 : (1.2 + 8 * Math.sqrt(edge.rate / top)).toFixed(2));
  }

  function drawNode(parts, node) {
    const { level, word } = healthOf(node);
    const label = node.label || "(no name)";
    const short = shortHost(label);
    setAttribute(parts.bar, "class", `bar ${level}`);
    setAttribute(parts.sign, "class", `sign ${level}`);
    setText(parts.sign, SIGNS[level]);
    setText(parts.label, short.length > LETTERS ? `${short.slice(0, LETTERS - 1)}…` : short);
    setText(parts.title, label);
    setText(parts.figures, lineOf(node, word));
    setAttribute(parts.element, "aria-label", `${node.kind} ${label}: ${word}${figuresOf(node).map(([name, value]) => `, ${name} ${value}`).join("")}`);
  }

  function lineOf(node, word) {
    if (node.kind === "endpoint" || !node.rate) return word;
    const share = node.error_rate > 0 ? ` · ${percent(node.error_rate)} err` : "";
    return `${rate(node.rate)}${share}`;
  }

  function figuresOf(node) {
    const known = (key, name, value) => (node[key] === undefined || node[key] === null ? [] : [[name, value]]);
    return [
      ...known("rate", "rate", rate(node.rate)),
      ...known("error_rate", "errors", percent(node.error_rate)),
      ...known("requests", "requests", count(node.requests)),
      ...known("p50", "p50", latency(node.p50)),
      ...known("p99", "p99", latency(node.p99)),
      ...known("virtual_service", "VirtualService", node.virtual_service),
    ];
  }

  function hover(id) {
    hovered = id;
    highlight();
  }

  /** Show the way through the node under the pointer, or else of the chosen one, and its figures. */
  function highlight() {
    const id = hovered ?? pinned;
    const node = id && laid?.nodes.get(id);
    const path = node ? pathThrough(id, laid.edges) : null;
    for (const [other, parts] of drawn.nodes) {
      parts.element.classList.toggle("dim", !!path && !path.has(other));
      setAttribute(parts.element, "aria-pressed", String(other === pinned));
    }
    for (const edge of laid?.edges ?? []) {
      drawn.edges.get(edge.id)?.classList.toggle("dim", !!path && !(path.has(edge.from) && path.has(edge.to)));
    }
    if (!node) {
      const kinds = (laid?.columns ?? []).filter((column) => column.kind !== "gateway");
      const all = kinds.map((column) => plural(graph.nodes.filter((one) => one.kind === column.kind).length, column.kind));
      details.replaceChildren(el("p", { class: "muted" }, `${all.join(", ")}. Point at a node or focus it for its figures; choose it to filter the table.`));
      return;
    }
    const { level, word } = healthOf(node);
    details.replaceChildren(
      el("p", { class: "details-title" }, el("span", { class: "muted" }, `${node.kind} `), el("b", null, node.label || "(no name)"), " ",
        el("span", { class: `sign ${level}` }, `${SIGNS[level]} `), word,
        pinned === id ? el("span", { class: "muted" }, " · chosen, Escape lets go") : null),
      el("dl", { class: "inline" }, figuresOf(node).map(([name, value]) => el("div", null, el("dt", null, name), el("dd", null, value)))));
  }

  /** Routes that lie on the way through the chosen node. */
  function drawTable() {
    const rows = rowsOf("route", app.live, null);
    if (!pinned) {
      table.caption.textContent = "All routes with traffic";
      table.update(rows);
      return;
    }
    const ids = wholePath();
    const chosen = laid.nodes.get(pinned);
    table.caption.textContent = `Routes through ${chosen.kind} ${chosen.label}`;
    table.update(rows.filter((row) => ids.has(idOfRoute(row)) && ids.has(idOfLast(row))));
  }

  /** Of the whole graph, not of what is drawn: a rest stands for each of its nodes. */
  function wholePath() {
    const node = laid.nodes.get(pinned);
    const starts = node.rest
      ? graph.nodes.filter((one) => one.kind === node.kind && !laid.nodes.has(one.id)).map((one) => one.id)
      : [pinned];
    return new Set(starts.flatMap((id) => [...pathThrough(id, graph.edges)]));
  }

  return {
    async refresh() {
      graph = await api.graph(app.window);
      app.graphOfNow = graph;
      const routed = graph.nodes.some((node) => node.kind !== "gateway");
      const left = [["route", graph.left_out_routes], ["endpoint", graph.left_out_endpoints]].filter(([, number]) => number > 0);
      setText(leftOut, left.length === 0 ? "" : `Too many to draw: ${left.map(([noun, number]) => plural(number, noun)).join(" and ")} left out, those without traffic first.`);
      nothing.hidden = routed;
      body.hidden = !routed;
      if (!routed) return;
      draw();
      const wanted = table.shown.flatMap((row) => row.sparks.map((key) => ({ id: key, only: { key } })));
      if (await app.sparks.refresh(wanted)) drawTable();
    },
  };
}
