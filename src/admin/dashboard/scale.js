// Scales of the charts: where a value is drawn, and where the ticks stand.

/** A round number of at least `value`. */
export function roundUp(value) {
  if (!(value > 0)) return 1;
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((step) => step * unit).find((step) => step >= value * 0.999);
}

/** From 0 to at least `max`: `{ at(value) → 0…1, ticks }`. */
export function linear(max, count = 4) {
  const step = roundUp(max / count);
  const top = step * Math.ceil(Math.max(max, step) / step - 1e-9);
  const ticks = [];
  for (let index = 0; index * step <= top * 1.001; index += 1) ticks.push(index * step);
  return { at: (value) => value / top, ticks };
}

/** Logarithmic from `min` to `max`, both above 0. */
export function logarithmic(min, max) {
  const [low, high] = [Math.log10(min) - 0.05, Math.log10(Math.max(max, min * 1.5)) + 0.05];
  const inside = (steps) => {
    const ticks = [];
    for (let power = Math.floor(low); power <= high; power += 1) {
      for (const step of steps) {
        const tick = step * 10 ** power;
        if (Math.log10(tick) >= low && Math.log10(tick) <= high) ticks.push(tick);
      }
    }
    return ticks;
  };
  const choices = [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 6, 8]].map(inside);
  const ticks = choices.find((ticks) => ticks.length >= 3) ?? choices.at(-1);
  return { at: (value) => (Math.log10(Math.max(value, min / 2)) - low) / (high - low), ticks };
}
