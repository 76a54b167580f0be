// The page: its views, the time window, and the beat at which figures are asked for.

import * as api from "./api.js";
import { el, setText } from "./dom.js";
import { clock, count, span } from "./format.js";
import { findings, grave, mount as problems } from "./problems.js";
import { mount as overview } from "./overview.js";
import { mount as graph } from "./graph.js";
import { mount as latency } from "./curves.js";
import { mount as slos } from "./slo.js";
import { mount as explain } from "./explain.js";
import { Sparks } from "./spark.js";

const BEAT_MS = 2000;
/** The configuration is large and changes seldom. */
const CONFIGURATION_MS = 10_000;
const VIEWS = { overview, graph, latency, slos, explain, problems };

const byId = (id) => document.getElementById(id);
const views = {};
const app = {
  window: 60, live: null, graphOfNow: null, sparks: new Sparks(), refresh, configuration,
};
let current = "overview";
let paused = false;
let timer = null;
/** Counts the turns: an answer that comes after the next question is not drawn. */
let turn = 0;
let lastAnswer = null;
let known = { at: 0, dump: null };

/** The configuration, asked for anew when it is old. */
async function configuration() {
  if (!known.dump || Date.now() - known.at > (current === "problems" ? BEAT_MS : CONFIGURATION_MS)) {
    known = { dump: await api.configuration(), at: Date.now() };
    const bad = grave(findings(known.dump));
    byId("problem-count").hidden = bad === 0;
    byId("problem-count").replaceChildren(String(bad), el("span", { class: "hidden" }, " errors"));
  }
  return known.dump;
}

function state(kind, text) {
  byId("state").dataset.state = kind;
  setText(byId("state"), text);
}

function lost(error) {
  document.body.classList.add("stale");
  const since = lastAnswer === null ? "" : ` The figures are those of ${clock(lastAnswer)}.`;
  state("bad", "✖ connection lost");
  setText(byId("lost"), `✖ Connection lost: the gateway's admin port does not answer (${error.message}).${since} Trying again every ${BEAT_MS / 1000} s.`);
  byId("lost").hidden = false;
}

function refused(error) {
  state("warn", "▲ no figures");
  setText(byId("lost"), `▲ The gateway answers, but without figures: ${error.message}`);
  byId("lost").hidden = false;
}

/** Ask for everything that the view in sight shows, then again after a beat. */
async function refresh() {
  clearTimeout(timer);
  turn += 1;
  const own = turn;
  try {
    const live = await api.live(app.window, views.overview.only());
    if (own !== turn) return;
    app.live = live;
    await Promise.all([views[current].refresh(), configuration()]);
    if (own !== turn) return;
    lastAnswer = app.live.now_unix_ms;
    document.body.classList.remove("stale");
    byId("lost").hidden = true;
    state(paused ? "wait" : "ok", paused ? `‖ paused at ${clock(lastAnswer)}` : "● live");
    setText(byId("about"), `up ${span(app.live.uptime_s)}, configuration ${count(app.live.generation)}`);
  } catch (error) {
    if (own !== turn) return;
    if (error instanceof api.Refused) refused(error);
    else lost(error);
  }
  if (!paused && !document.hidden) timer = setTimeout(refresh, BEAT_MS);
}

function show(name, focus) {
  current = name;
  for (const view of Object.keys(VIEWS)) {
    const tab = byId(`tab-${view}`);
    const chosen = view === name;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    byId(`view-${view}`).hidden = !chosen;
    if (chosen && focus) tab.focus();
    if (chosen) tab.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
  if (location.hash !== `#${name}`) history.replaceState(null, "", `#${name}`);
  refresh();
}

function keyOfTabs(event) {
  const names = Object.keys(VIEWS);
  const at = names.indexOf(current);
  const to = {
    ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: names.length - 1,
  }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  show(names[(to + names.length) % names.length], true);
}

const THEMES = ["auto", "light", "dark"];

function theme(name) {
  document.documentElement.dataset.theme = name;
  setText(byId("theme"), `Theme: ${name}`);
  try {
    localStorage.setItem("ringress-theme", name);
  } catch {
    // A browser that keeps nothing: the choice lasts as long as the page.
  }
}

function storedTheme() {
  try {
    return localStorage.getItem("ringress-theme");
  } catch {
    return null;
  }
}

function start() {
  theme(THEMES.includes(storedTheme()) ? storedTheme() : "auto");
  byId("theme").addEventListener("click", () => {
    const at = THEMES.indexOf(document.documentElement.dataset.theme);
    theme(THEMES[(at + 1) % THEMES.length]);
  });
  byId("pause").addEventListener("click", () => {
    paused = !paused;
    byId("pause").setAttribute("aria-pressed", String(paused));
    if (paused) {
      clearTimeout(timer);
      state("wait", lastAnswer === null ? "‖ paused" : `‖ paused at ${clock(lastAnswer)}`);
    } else {
      refresh();
    }
  });
  byId("window").addEventListener("change", (event) => {
    app.window = Number(event.target.value);
    refresh();
  });
  for (const [name, mount] of Object.entries(VIEWS)) {
    views[name] = mount(byId(`view-${name}`), app);
    byId(`tab-${name}`).addEventListener("click", () => show(name));
  }
  document.querySelector("[role=tablist]").addEventListener("keydown", keyOfTabs);
  addEventListener("hashchange", () => {
    const name = location.hash.slice(1);
    if (VIEWS[name] && name !== current) show(name);
  });
  // Nobody looks: nothing is asked for.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) clearTimeout(timer);
    else if (!paused) refresh();
  });
  show(VIEWS[location.hash.slice(1)] ? location.hash.slice(1) : "overview");
}

start();
