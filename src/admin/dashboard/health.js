// What counts as healthy, in one place: a word, a sign, and a class for the colour, so that no
// meaning hangs on the colour alone.

/** Share of errors from which something is worth a look, and from which it is bad. */
export const WARN_FROM = 0.01;
export const BAD_FROM = 0.05;

export const SIGNS = { ok: "●", warn: "▲", bad: "✖", idle: "○" };

/** Health of a row of figures or a node of the graph. */
export function healthOf(thing) {
  if (thing.ejected) return { level: "bad", word: "ejected" };
  if (thing.healthy === false) return { level: "bad", word: "not ready" };
  const share = thing.error_rate ?? 0;
  if (thing.healthy === true) return { level: "ok", word: "ready" };
  const idle = thing.requests === undefined ? !thing.rate : thing.requests === 0;
  if (idle) return { level: "idle", word: "no traffic" };
  if (share >= BAD_FROM) return { level: "bad", word: "failing" };
  if (share >= WARN_FROM) return { level: "warn", word: "some errors" };
  return { level: "ok", word: "healthy" };
}

/** Is `percentile` (`p50`, …, `p999`) one for which `stats` has too few samples? */
export function tooFew(stats, percentile) {
  const order = ["p50", "p90", "p99", "p999"];
  const from = order.indexOf(stats.too_few_for ?? "");
  return from >= 0 && order.indexOf(percentile) >= from;
}

/** Has a curve of `count` requests not one to be expected above `quantile`? */
export function tooFewAbove(count, quantile) {
  return count * (1 - quantile) < 0.9999999;
}
