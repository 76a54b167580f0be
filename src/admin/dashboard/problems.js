// What the gateway found wrong or odd in the configuration that it reads.

import * as api from "./api.js";
import { choice, el, empty, setText } from "./dom.js";
import { count, plural } from "./format.js";
import { Table } from "./table.js";

const RANK = { error: 0, warning: 1 };
const SIGN = { error: ["bad", "✖"], warning: ["warn", "▲"] };
const STATES = { refused: "refused", kept_last_good: "older version served", live: "live" };

/** Findings of a `/config_dump`, each with the object that it is about. */
export function findings(dump) {
  const own = dump.diagnostics.map((finding) => ({ ...finding, object: "–", state: "" }));
  const ofObjects = dump.objects.flatMap((object) => object.diagnostics.map((finding) => ({
    ...finding, object: `${object.kind} ${object.namespace}/${object.name}`, state: STATES[object.state] ?? object.state,
  })));
  const known = new Map();
  // The list of all has those of objects too: one that names its object says more.
  for (const finding of [...ofObjects, ...own]) {
    finding.place = finding.line > 0 ? `${finding.file}:${finding.line}:${finding.column}` : finding.file;
    finding.id = [finding.code, finding.place, finding.message].join("\n");
    if (!known.has(finding.id)) known.set(finding.id, finding);
  }
  return [...known.values()];
}

/** How many of them keep something from being served as written. */
export const grave = (all) => all.filter((finding) => finding.severity === "error").length;

export function mount(root, app) {
  let shown = "all";
  let all = [];
  const summary = el("p", { class: "muted", role: "status" });
  const severity = (row) => RANK[row.severity] ?? 2;
  const table = new Table({
    caption: "Findings in the configuration",
    columns: [
      {
        key: "severity", label: "Severity", value: severity,
        fill(cell, row, parts) {
          const [level, sign] = SIGN[row.severity] ?? ["idle", "○"];
          parts.sign ??= cell.appendChild(el("span", { "aria-hidden": "true" }));
          parts.word ??= cell.appendChild(el("span"));
          parts.sign.className = `sign ${level}`;
          setText(parts.sign, `${sign} `);
          setText(parts.word, row.severity);
        },
      },
      { key: "code", label: "Code", value: (row) => row.code, text: (row) => row.code },
      { key: "object", label: "Object", value: (row) => row.object, text: (row) => (row.state ? `${row.object} (${row.state})` : row.object) },
      { key: "message", label: "What and what to do", text: (row) => row.message },
      { key: "place", label: "Place", value: (row) => row.place, text: (row) => row.place },
    ],
    keyOf: (row) => row.id, sort: { key: "severity", descending: false },
  });
  table.element.classList.add("cards", "findings");
  const clean = empty("No problems", el("p", null, "Everything that was read is served as it is written."));
  const toolbar = el("div", { class: "toolbar" },
    choice("Severity", "severity", [["all", "All"], ["error", "Errors"], ["warning", "Warnings"]], "all", (value) => {
      shown = value;
      draw();
    }));
  root.append(el("div", { class: "heading" }, el("h2", null, "Configuration")), summary, toolbar, clean, table.element);

  function draw() {
    const rows = all.filter((row) => shown === "all" || row.severity === shown);
    table.update(rows);
    clean.hidden = all.length > 0;
    toolbar.hidden = all.length === 0;
    table.element.hidden = rows.length === 0;
  }

  return {
    async refresh() {
      const dump = await app.configuration();
      all = findings(dump);
      const states = (state) => dump.objects.filter((object) => object.state === state).length;
      const parts = [`${plural(dump.objects.length, "object")} read, ${count(states("live"))} live`];
      if (states("refused")) parts.push(`${count(states("refused"))} refused`);
      if (states("kept_last_good")) parts.push(`${count(states("kept_last_good"))} with an older version served`);
      setText(summary, `${parts.join(", ")}. Generation ${dump.generation}.`);
      draw();
    },
  };
}
