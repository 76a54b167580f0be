// Ask where a request would go and why, by the code and the table that the workers route by.

import * as api from "./api.js";
import { el, scroller } from "./dom.js";

const METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];

export function mount(root) {
  const method = el("select", { id: "explain-method" }, METHODS.map((name) => el("option", null, name)));
  const url = el("input", {
    id: "explain-url", type: "text", required: true, value: "http://hello.com/", inputmode: "url", autocomplete: "off", spellcheck: "false",
  });
  const port = el("input", { id: "explain-port", type: "number", min: 1, max: 65535, placeholder: "by the URL" });
  const headers = el("textarea", { id: "explain-headers", rows: 3, placeholder: "x-user: jason", spellcheck: "false" });
  const field = (label, control) => el("div", { class: "field" }, el("label", { for: control.id }, label), control);
  const answer = el("pre", { id: "explain-answer" });
  const outcome = el("div", { role: "status", hidden: true }, el("h3", null, "Answer"), scroller("Answer", answer));
  const refusal = el("p", { class: "notice bad", role: "alert", hidden: true });
  const form = el("form", { class: "card explain" },
    field("Method", method), field("URL", url), field("Port", port), field("Headers, one a line", headers),
    el("div", { class: "field" }, el("button", { type: "submit", class: "primary" }, "Explain")));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    refusal.hidden = true;
    try {
      answer.textContent = await api.explain(`${method.value} ${url.value.trim()}\n${headers.value.trim()}`, port.value);
      outcome.hidden = false;
    } catch (error) {
      outcome.hidden = true;
      refusal.hidden = false;
      refusal.textContent = error instanceof api.Refused ? `✖ ${error.message}` : "✖ The gateway does not answer.";
    }
  });
  root.append(
    el("div", { class: "heading" }, el("h2", null, "Explain a request")),
    el("p", { class: "muted" }, "Where it would go and why. Nothing is sent: the configuration in force is asked."),
    form, refusal, outcome);
  return { refresh: async () => {} };
}
