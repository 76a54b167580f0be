// Figures as people read them: three significant digits, with units.

const NBSP = "\u00a0";
export const NONE = "–";

/** Three significant digits, thousands grouped. */
function digits(value) {
  const magnitude = Math.abs(value);
  const decimals = magnitude >= 100 ? 0 : magnitude >= 10 ? 1 : 2;
  const text = value.toFixed(decimals);
  return decimals === 0 ? Number(text).toLocaleString("en") : text;
}

/** Microseconds. */
export function latency(us) {
  if (us === null || us === undefined) return NONE;
  if (us < 1000) return `${Math.round(us)}${NBSP}µs`;
  if (us < 1e6) return `${digits(us / 1e3)}${NBSP}ms`;
  return `${digits(us / 1e6)}${NBSP}s`;
}

/** For axes: no more digits than the tick needs. */
export function latencyTick(us) {
  if (us === 0) return "0";
  const [value, unit] = us < 1000 ? [us, "µs"] : us < 1e6 ? [us / 1e3, "ms"] : [us / 1e6, "s"];
  return `${Number(value.toPrecision(3))}${NBSP}${unit}`;
}

/** Events per second. */
export function rate(value) {
  if (value === null || value === undefined) return NONE;
  if (value === 0) return "0/s";
  if (value < 0.01) return "<0.01/s";
  if (value >= 1e6) return `${digits(value / 1e6)}${NBSP}M/s`;
  if (value >= 1e4) return `${digits(value / 1e3)}${NBSP}k/s`;
  return `${digits(value)}/s`;
}

/** A share of 0 to 1. */
export function percent(share) {
  if (share === null || share === undefined) return NONE;
  const value = share * 100;
  if (value === 0) return `0${NBSP}%`;
  if (value > 0 && value < 0.001) return `<0.001${NBSP}%`;
  // What is almost all is never rounded to all.
  if (value >= 99 && value < 100) return `${Math.floor(value * 1000 + 1e-6) / 1000}${NBSP}%`;
  return `${Number(value.toPrecision(3))}${NBSP}%`;
}

/** For axes. */
export function rateTick(value) {
  return value >= 1e4 ? `${Number((value / 1e3).toPrecision(3))}${NBSP}k/s` : `${Number(value.toPrecision(3)).toLocaleString("en")}/s`;
}

/** Names of services are long, and most end alike. */
export function shortHost(host) {
  return (host ?? "").replace(/\.svc\.cluster\.local$/, "");
}

/** A count. */
export function count(value) {
  return value === null || value === undefined ? NONE : value.toLocaleString("en");
}

/** Seconds, in the largest unit that fits. */
export function span(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  const units = [[86400, "d"], [3600, "h"], [60, "min"]];
  for (const [size, unit] of units) {
    if (seconds >= size) return `${Number((seconds / size).toPrecision(2))}${NBSP}${unit}`;
  }
  return `${Math.round(seconds)}${NBSP}s`;
}

/** Time of day of Unix milliseconds. */
export function clock(unixMs) {
  return new Date(unixMs).toLocaleTimeString("en-GB");
}

/** `one problem`, `3 problems`. */
export function plural(number, noun) {
  return number === 1 ? `one ${noun}` : `${count(number)} ${noun}s`;
}
