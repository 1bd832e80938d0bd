// The arithmetic of a chart: ranges, ticks, paths, nearest points. Pure functions; chart.js draws with them.

// Whether a value can be drawn; a logarithmic axis has no place for zero and below.
export function isDrawable(value, log = false) {
  return typeof value === "number" && Number.isFinite(value) && (!log || value > 0);
}

// The smallest and largest coordinate (0: step, 1: value) of several series, or null if there is none.
export function findExtent(series, axis, log = false) {
  let low = Infinity;
  let high = -Infinity;
  for (const {points} of series) {
    for (const point of points) {
      const value = point[axis];
      if (!isDrawable(value, log)) continue;
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  return low <= high ? [low, high] : null;
}

// Widens a range so that no line touches the frame; a range of one value becomes one that can be drawn.
export function padExtent([low, high], log = false) {
  if (log) {
    const room = low === high ? Math.log10(2) : Math.log10(high / low) * 0.06;
    return [low / 10 ** room, high * 10 ** room];
  }
  const room = low === high ? Math.abs(low) * 0.1 || 1 : (high - low) * 0.06;
  // a curve that is never negative gets no negative axis
  return [low >= 0 ? Math.max(0, low - room) : low - room, high + room];
}

// A function from values to pixels.
export function buildScale([low, high], [from, to], log = false) {
  const read = log ? Math.log10 : (value) => value;
  const begin = read(low);
  const span = read(high) - begin || 1;
  return (value) => from + ((read(value) - begin) / span) * (to - from);
}

// Round values inside a range, about `count` of them.
export function listTicks([low, high], count, whole = false) {
  const rough = (high - low) / Math.max(1, count);
  if (!(rough > 0) || !Number.isFinite(rough)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const share = rough / power;
  const factor = share < 1.5 ? 1 : share < 3.2 ? 2 : share < 7 ? 5 : 10;
  const step = whole ? Math.max(1, Math.round(factor * power)) : factor * power;
  const ticks = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n += 1) ticks.push(n * step + 0);
  return ticks;
}

// Powers of ten inside a range; with 2 and 5 between them, or even steps, if the range has few powers.
export function listLogTicks([low, high], count) {
  const powers = [];
  for (let n = Math.floor(Math.log10(low)); n <= Math.ceil(Math.log10(high)); n += 1) powers.push(10 ** n);
  const inside = (value) => value >= low * 0.9999 && value <= high * 1.0001;
  const whole = powers.filter(inside);
  if (whole.length > 2) {
    const skip = Math.ceil(whole.length / Math.max(2, count));
    return whole.filter((_, n) => n % skip === 0);
  }
  const between = powers.flatMap((power) => [power, 2 * power, 5 * power]).filter(inside);
  return between.length > 1 ? between : listTicks([low, high], count).filter((value) => value > 0);
}

// The text of a tick; `ticks` decide how many digits tell neighbours apart.
export function formatTick(value, ticks) {
  if (value === 0) return "0";
  const largest = Math.max(...ticks.map(Math.abs));
  const gap = ticks.length > 1 ? Math.min(...ticks.slice(1).map((tick, n) => Math.abs(tick - ticks[n]))) : largest;
  if (largest < 1e-2 || largest >= 1e7) return trimExponent(value);
  const digits = Math.max(0, Math.min(8, -Math.floor(Math.log10(gap) + 1e-9)));
  const text = value.toFixed(digits);
  return largest >= 1e4 ? shortenThousands(value) : text;
}

// `1e-4` and `2.5e-4` instead of `0.0001` and `0.00025`.
export function trimExponent(value, digits = 2) {
  const [head, power] = value.toExponential(digits).split("e");
  return `${head.includes(".") ? head.replace(/\.?0+$/, "") : head}e${Number(power)}`;
}

function shortenThousands(value) {
  const [unit, size] = Math.abs(value) >= 1e6 ? ["M", 1e6] : ["k", 1e3];
  return `${Number((value / size).toFixed(1))}${unit}`;
}

// The `d` of a path through points; a value that cannot be drawn leaves a gap.
export function buildPath(points, x, y, log = false) {
  const parts = [];
  let pen = "M";
  for (const [step, value] of points) {
    if (!isDrawable(value, log)) {
      pen = "M";
      continue;
    }
    parts.push(pen, x(step).toFixed(1), " ", y(value).toFixed(1));
    pen = "L";
  }
  return parts.join("");
}

// The index of the entry of a sorted list that is nearest to a value.
export function findNearest(sorted, value) {
  let low = 0;
  let high = sorted.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low > 0 && value - sorted[low - 1] < sorted[low] - value ? low - 1 : low;
}

// Every step that some series has, sorted.
export function listSteps(series) {
  const steps = new Set();
  for (const {points} of series) for (const [step] of points) if (Number.isFinite(step)) steps.add(step);
  return [...steps].sort((a, b) => a - b);
}

// The value of a series at a step, or its last one before it: validation has no value at most steps.
export function readValue(points, step) {
  let low = 0;
  let high = points.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle][0] <= step) low = middle + 1;
    else high = middle;
  }
  return low > 0 ? points[low - 1] : null;
}

// Markers that would cover each other become one; each group has the place of its first.
export function groupMarkers(markers, x, distance) {
  const groups = [];
  for (const marker of [...markers].sort((a, b) => a.at - b.at)) {
    const place = x(marker.at);
    const last = groups[groups.length - 1];
    if (last && place - last.place < distance) last.markers.push(marker);
    else groups.push({place, step: marker.at, markers: [marker]});
  }
  return groups;
}

// At most `count` entries of a list, evenly spread, always with the first and the last.
export function spread(list, count) {
  if (list.length <= count) return list;
  return Array.from({length: count}, (_, n) => list[Math.round((n * (list.length - 1)) / (count - 1))]);
}
