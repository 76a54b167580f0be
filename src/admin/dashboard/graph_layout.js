// Where the nodes of the service graph stand: a column for each kind, the busiest nodes of each, in an
// order in which few lines cross.

export const KINDS = ["gateway", "host", "route", "service", "subset", "endpoint"];
export const NODE = { width: 170, height: 40 };
const GAP = { x: 50, y: 10 };
const TOP = 28;
/** Room for a line that passes a column. */
const PASSAGE = 12;
const SWEEPS = 6;

/** The node that stands for those of a kind that are not shown. */
const restOf = (kind) => `rest ${kind}`;

/**
 * `{ nodes, edges }` of the gateway → those to draw, at most `most` a kind, with places.
 * A node that is not shown gives its edges to one node for all of them.
 */
export function layOut(graph, most) {
  const { nodes } = graph;
  const before = ratesBefore(graph);
  const shown = new Map();
  const standsFor = new Map();
  const columns = [];
  for (const kind of KINDS) {
    const column = nodes.filter((node) => node.kind === kind).sort(busier(before));
    // A node that says "and one more" takes the room of that one.
    const kept = column.length <= most + 1 ? column : column.slice(0, most);
    const left = column.slice(kept.length);
    if (left.length > 0) kept.push(rest(kind, left));
    for (const node of kept) {
      shown.set(node.id, node);
      standsFor.set(node.id, node.id);
    }
    for (const node of left) standsFor.set(node.id, restOf(kind));
    if (kept.length > 0) columns.push({ kind, nodes: kept });
  }
  const edges = merged(graph.edges, standsFor);
  order(columns, segments(columns, edges));
  const heightOf = (column) => column.nodes.reduce((sum, node) => sum + heightOfNode(node) + GAP.y, 0);
  const height = TOP + Math.max(NODE.height, ...columns.map(heightOf));
  columns.forEach((column, index) => {
    column.x = 4 + index * (NODE.width + GAP.x);
    let y = TOP + (height - TOP - heightOf(column)) / 2;
    for (const node of column.nodes) {
      node.x = column.x;
      node.y = y;
      node.middle = y + heightOfNode(node) / 2;
      y += heightOfNode(node) + GAP.y;
    }
    column.nodes = column.nodes.filter((node) => !node.passage);
  });
  const width = 8 + columns.length * (NODE.width + GAP.x) - GAP.x;
  return { nodes: shown, edges, columns, width, height };
}

const heightOfNode = (node) => (node.passage ? PASSAGE : NODE.height);

/**
 * Steps from column to column. An edge that passes a column gets a passage in it, one for all edges of its
 * node, so that no line runs behind a node.
 */
function segments(columns, edges) {
  const columnOf = new Map(columns.flatMap((column, index) => column.nodes.map((node) => [node.id, index])));
  const passages = new Map();
  const steps = [];
  for (const edge of edges) {
    edge.via = [];
    let last = edge.from;
    for (let index = columnOf.get(edge.from) + 1; index < columnOf.get(edge.to); index += 1) {
      const id = `passage ${index} ${edge.from}`;
      if (!passages.has(id)) {
        passages.set(id, { id, passage: true, label: "" });
        columns[index].nodes.push(passages.get(id));
      }
      edge.via.push(passages.get(id));
      steps.push({ from: last, to: id });
      last = id;
    }
    steps.push({ from: last, to: edge.to });
  }
  return steps;
}

/** The line of an edge, as the `d` of a path. */
export function pathOf(edge, nodes) {
  const [from, to] = [nodes.get(edge.from), nodes.get(edge.to)];
  let [x, y] = [from.x + NODE.width, from.middle];
  let path = `M${x} ${y}`;
  for (const stop of [...edge.via, to]) {
    const bend = Math.max(24, (stop.x - x) / 2);
    path += `C${x + bend} ${y} ${stop.x - bend} ${stop.middle} ${stop.x} ${stop.middle}`;
    if (stop.passage) path += `h${NODE.width}`;
    [x, y] = [stop.x + NODE.width, stop.middle];
  }
  return path;
}

/** The busiest first; of those without traffic the ones that are in trouble, then by name. */
const busier = (before) => (one, other) => {
  const trouble = (node) => Number(node.ejected === true || node.healthy === false);
  const rate = (node) => node.rate ?? before.get(node.id) ?? 0;
  return rate(other) - rate(one) || trouble(other) - trouble(one) || one.label.localeCompare(other.label);
};

/** What the nodes before a node have together, for endpoints, which are not counted one by one. */
function ratesBefore(graph) {
  const rates = new Map(graph.nodes.map((node) => [node.id, node.rate ?? 0]));
  const before = new Map();
  for (const { from, to } of graph.edges) before.set(to, (before.get(to) ?? 0) + (rates.get(from) ?? 0));
  return before;
}

function rest(kind, nodes) {
  const sum = (key) => nodes.reduce((sum, node) => sum + (node[key] ?? 0), 0);
  const named = { id: restOf(kind), kind, label: `and ${nodes.length} more`, rest: nodes.length };
  if (kind === "endpoint") {
    return { ...named, ejected: nodes.some((node) => node.ejected), healthy: nodes.every((node) => node.healthy) };
  }
  const [requests, errors] = [sum("requests"), sum("errors")];
  return { ...named, rate: sum("rate"), requests, errors, error_rate: requests > 0 ? errors / requests : 0 };
}

/** Edges between what is shown; those between the same two are one. */
function merged(edges, standsFor) {
  const found = new Map();
  for (const edge of edges) {
    const [from, to] = [standsFor.get(edge.from), standsFor.get(edge.to)];
    if (from === undefined || to === undefined) continue;
    const id = `${from}\n${to}`;
    const known = found.get(id) ?? { id, from, to, rate: null, failing: 0, p99: null };
    // Null: not counted.
    if (edge.rate !== null) known.rate = (known.rate ?? 0) + edge.rate;
    known.failing += (edge.rate ?? 0) * (edge.error_rate ?? 0);
    // Of several the slowest: a percentile of all of them is not known.
    if (edge.p99 !== null && edge.p99 !== undefined) known.p99 = Math.max(known.p99 ?? 0, edge.p99);
    found.set(id, known);
  }
  for (const edge of found.values()) edge.error_rate = edge.rate > 0 ? edge.failing / edge.rate : 0;
  return [...found.values()];
}

/** Order each column by the mean place of a node's neighbours, there and back. */
function order(columns, edges) {
  const neighbours = new Map();
  const link = (one, other) => neighbours.set(one, [...(neighbours.get(one) ?? []), other]);
  for (const { from, to } of edges) {
    link(from, to);
    link(to, from);
  }
  for (const column of columns) column.nodes.sort((one, other) => one.label.localeCompare(other.label));
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const places = new Map();
    for (const column of columns) {
      column.nodes.forEach((node, index) => places.set(node.id, (index + 0.5) / column.nodes.length));
    }
    const along = sweep % 2 === 0 ? columns : [...columns].reverse();
    for (const column of along) {
      const mean = new Map(column.nodes.map((node) => {
        const around = (neighbours.get(node.id) ?? []).map((id) => places.get(id));
        const sum = around.reduce((sum, place) => sum + place, 0);
        return [node.id, around.length > 0 ? sum / around.length : places.get(node.id)];
      }));
      // What stands for the rest comes last.
      column.nodes.sort((one, other) =>
        Number(!!one.rest) - Number(!!other.rest) || mean.get(one.id) - mean.get(other.id) || one.label.localeCompare(other.label));
      column.nodes.forEach((node, index) => places.set(node.id, (index + 0.5) / column.nodes.length));
    }
  }
}

/** Everything before and behind a node, itself too. */
export function pathThrough(id, edges) {
  const found = new Set([id]);
  const walk = (start, from, to) => {
    const seen = new Set([start]);
    const open = [start];
    while (open.length > 0) {
      const at = open.pop();
      for (const edge of edges) {
        if (edge[from] === at && !seen.has(edge[to])) {
          seen.add(edge[to]);
          found.add(edge[to]);
          open.push(edge[to]);
        }
      }
    }
  };
  walk(id, "from", "to");
  walk(id, "to", "from");
  return found;
}
