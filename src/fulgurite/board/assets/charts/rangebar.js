// A bar that shows which values are allowed, which are usual, the derived one and yours.

import {html} from "../vendor/htm-preact.js";
import {formatRate} from "../app/format.js";
import {t} from "../app/i18n.js";

const HEIGHT = 34;
const MIDDLE = 10;
// How much of the bar lies beyond the usual values if the allowed ones go on: a factor, or a share of the span.
const BEYOND_FACTOR = 4;
const BEYOND_SHARE = 0.4;
// An allowed range many times as wide as the usual one would shrink that to a point.
const WIDE = 12;

export function RangeBar({row: given, card, yours, level}) {
  const row = {...given, derived: findRest(given, card)};
  const scale = makeScale(row, yours);
  if (!scale) return null;
  const {legal} = row;
  const from = scale.place(limit(legal?.low) ? legal.low : scale.low);
  const to = scale.place(limit(legal?.high) ? legal.high : scale.high);
  const derived = isNumber(row.derived) ? row.derived : null;
  return html`<svg class="range" width="100%" height=${HEIGHT} role="img" aria-label=${describeRange(row, yours)}>
    <rect class="range-legal" x=${percent(from)} width=${percent(to - from)} y=${MIDDLE - 2} height="4" rx="2" />
    <${Usual} usual=${row.usual} scale=${scale} />
    ${derived === null ? null : html`<${Mark} at=${scale.place(derived)} class="range-derived"
      d="M0 -5.5 5.5 0 0 5.5 -5.5 0z"
      title=${t("parameters.mark_derived", {value: formatRate(derived)})} />`}
    ${yours === null ? null : html`<${Mark} at=${scale.place(yours)} class=${`range-yours ${level}`}
      d="M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0"
      title=${t("parameters.mark_yours", {value: formatRate(yours)})} />`}
  </svg>`;
}

// The value that the parameter has if nobody touches it: the derived one, or the default.
function findRest(row, card) {
  if (isNumber(row.derived)) return row.derived;
  if (row.origin === "default" && isNumber(row.value)) return row.value;
  const value = Number(card?.default || NaN);
  return isNumber(value) ? value : null;
}

function Mark({at, d, title, ...rest}) {
  return html`<svg x=${percent(at)} y=${MIDDLE} overflow="visible" class=${rest.class}><path d=${d}>
    <title>${title}</title></path></svg>`;
}

function Usual({usual, scale}) {
  if (!usual) return null;
  if (usual.values) {
    const numbers = usual.values.map(Number).filter((value) => isNumber(value) && scale.holds(value));
    const labelled = listLabelled(numbers, scale);
    return numbers.map((value) => html`<g key=${value}>
      <${Mark} at=${scale.place(value)} class="range-usual" d="M-2 -4h4v8h-4z" title=${formatRate(value)} />
      ${labelled.has(value) ? html`<${Label} at=${scale.place(value)} text=${formatRate(value)} />` : null}</g>`);
  }
  const low = limit(usual.low) ? usual.low : scale.low;
  const high = limit(usual.high) ? usual.high : scale.high;
  const [from, to] = [scale.place(low), scale.place(high)];
  return html`<g>
    <rect class="range-usual" x=${percent(from)} width=${percent(Math.max(to - from, 0.008))} y=${MIDDLE - 4} height="8"
      rx="3" />
    ${to - from < 0.2
      ? html`<${Label} at=${(from + to) / 2}
        text=${low === high ? formatRate(low) : `${formatRate(low)} – ${formatRate(high)}`} />`
      : html`<${Label} at=${from} text=${formatRate(low)} /><${Label} at=${to} text=${formatRate(high)} />`}
  </g>`;
}

// As many numbers as have room beside each other, the first and the last among them.
function listLabelled(numbers, scale) {
  const kept = new Set([numbers[0], numbers[numbers.length - 1]]);
  for (const value of numbers) {
    if ([...kept].every((other) => value === other
      || Math.abs(scale.place(value) - scale.place(other)) > 0.12)) kept.add(value);
  }
  return kept;
}

function Label({at, text}) {
  const anchor = at < 0.12 ? "start" : at > 0.88 ? "end" : "middle";
  return html`<text class="range-label" x=${percent(at)} y=${HEIGHT - 4} text-anchor=${anchor}>${text}</text>`;
}

function percent(share) {
  return `${(100 * Math.min(1, Math.max(0, share))).toFixed(2)}%`;
}

function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

function limit(value) {
  return isNumber(value) && Math.abs(value) < 1e15;
}

// Which values the bar spans, and the place of a value on it from 0 to 1; null if there is nothing to draw.
export function makeScale(row, yours) {
  const usual = row.usual?.values ? row.usual.values.map(Number) : [row.usual?.low, row.usual?.high];
  const marks = [...usual, row.derived, yours].filter(limit);
  const legal = [row.legal?.low, row.legal?.high];
  if (!marks.length || (!row.usual && !legal.every(limit))) return null;
  const log = row.log && marks.some((value) => value > 0);
  const [low, high] = log ? spanLog(marks, legal) : spanLinear(marks, legal);
  if (!(high > low)) return null;
  const place = log
    ? (value) => (value > 0 ? Math.log(value / low) / Math.log(high / low) : 0)
    : (value) => (value - low) / (high - low);
  return {low, high, log, place, holds: (value) => value >= low && value <= high};
}

function spanLog(marks, [least, most]) {
  const positive = marks.filter((value) => value > 0);
  let low = Math.min(...positive) / BEYOND_FACTOR;
  let high = Math.max(...positive) * BEYOND_FACTOR;
  if (limit(least) && least > low) low = least;
  if (limit(most) && most < high) high = most;
  return [low, high];
}

function spanLinear(marks, [least, most]) {
  const [first, last] = [Math.min(...marks), Math.max(...marks)];
  const span = last - first || Math.abs(last) || 1;
  if (limit(least) && limit(most) && most - least <= WIDE * span) return [Math.min(least, first), Math.max(most, last)];
  let low = first - BEYOND_SHARE * span;
  let high = last + BEYOND_SHARE * span;
  if (limit(least)) low = Math.max(low, Math.min(least, first));
  if (limit(most)) high = Math.min(high, Math.max(most, last));
  return [low, high];
}

// The same in words: for those who do not see the bar, and in the opened row.
export function describeRange(row, yours = null) {
  return [
    describeLegal(row.legal), describeUsual(row.usual),
    isNumber(row.derived) ? t("parameters.mark_derived", {value: formatRate(row.derived)}) : "",
    yours === null ? "" : t("parameters.mark_yours", {value: formatRate(yours)}),
  ].filter(Boolean).join(" ");
}

export function describeLegal(legal) {
  if (!legal) return "";
  const [low, high] = [limit(legal.low), limit(legal.high)];
  if (low && high) return t("parameters.legal_between", {low: formatRate(legal.low), high: formatRate(legal.high)});
  if (low) return t(legal.open_low ? "parameters.legal_above" : "parameters.legal_from", {low: formatRate(legal.low)});
  if (high) return t(legal.open_high ? "parameters.legal_below" : "parameters.legal_to",
    {high: formatRate(legal.high)});
  return "";
}

export function describeUsual(usual) {
  if (!usual) return "";
  if (usual.values) return t("parameters.usual_values",
    {values: usual.values.map((value) => formatRate(value)).join(", ")});
  const [low, high] = [limit(usual.low), limit(usual.high)];
  if (low && high) return t("parameters.usual_between", {low: formatRate(usual.low), high: formatRate(usual.high)});
  if (low) return t("parameters.usual_from", {low: formatRate(usual.low)});
  if (high) return t("parameters.usual_to", {high: formatRate(usual.high)});
  return "";
}
