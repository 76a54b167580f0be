// Elements made by hand. Text goes in as text only: names of hosts and routes come from elsewhere.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** An HTML element. Attributes that begin with `on` are listeners; children are nodes or text. */
export function el(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** Set the text only when it differs, so that screen readers and selections are left alone. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Set or, for null, remove an attribute. */
export function setAttribute(element, name, value) {
  if (value === null || value === undefined) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

/** An empty state: what is not there, and what to do. */
export function empty(title, ...children) {
  return el("div", { class: "empty" }, el("p", { class: "empty-title" }, title), ...children);
}

/** A container that scrolls by itself and can be scrolled by the keyboard. */
export function scroller(label, ...children) {
  return el("div", { class: "scroll", role: "region", "aria-label": label, tabindex: 0 }, ...children);
}

/** Radio buttons that look like one control. `options`: [value, label] pairs. */
export function choice(legend, name, options, value, onchange) {
  const labels = options.map(([option, label]) =>
    el("label", null,
      el("input", {
        type: "radio", name, value: option, checked: option === value,
        onchange: (event) => onchange(event.target.value),
      }),
      el("span", null, label)));
  return el("fieldset", { class: "choice" }, el("legend", { class: "hidden" }, legend), labels);
}

/** Call `draw` with the width of `element` now and whenever it changes. */
export function onWidth(element, draw) {
  let last = 0;
  new ResizeObserver(() => {
    const width = element.clientWidth;
    if (width > 0 && width !== last) {
      last = width;
      draw(width);
    }
  }).observe(element);
}
