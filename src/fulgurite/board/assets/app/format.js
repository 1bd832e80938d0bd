// Numbers, bytes, durations and rates as text, alike in both languages except for words, which come from the texts.

import {getLanguage, t} from "./i18n.js";

const locale = () => (getLanguage() === "zh" ? "zh-CN" : "en-GB");

export function formatNumber(value, digits = 0) {
  if (!Number.isFinite(value)) return "–";
  return new Intl.NumberFormat(locale(), {maximumFractionDigits: digits}).format(value);
}

// 1234567 as 1.23 M: for parameters and tokens, whose last digits do not matter.
export function formatCount(value) {
  if (!Number.isFinite(value)) return "–";
  for (const [size, unit] of [[1e12, "T"], [1e9, "B"], [1e6, "M"]]) {
    if (Math.abs(value) >= size) return `${trim(value / size, 3)} ${unit}`;
  }
  return formatNumber(value);
}

// Powers of ten and three digits, as `fulgurite plan` prints them.
export function formatBytes(value) {
  if (!Number.isFinite(value)) return "–";
  for (const [size, unit] of [[1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"]]) {
    if (Math.abs(value) >= size) return `${trim(value / size, 3)} ${unit}`;
  }
  return `${Math.round(value)} B`;
}

// The number as one would type it: 5e-5, 0.003, 128. Short, and the same number again when it is read.
export function formatRate(value) {
  if (typeof value !== "number" || !Number.isFinite(value)) return value === null || value === undefined ? ""
    : String(value);
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 0.01 && size < 1e7) return String(trim(value, 4));
  return Number(value.toPrecision(4)).toExponential().replace("e+", "e");
}

export function formatPercent(share, digits = 0) {
  if (!Number.isFinite(share)) return "–";
  return new Intl.NumberFormat(locale(), {style: "percent", maximumFractionDigits: digits}).format(share);
}

export function formatDuration(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  if (seconds < 60) return t("shell.seconds", {count: Math.round(seconds)});
  if (seconds < 3600) return t("shell.minutes", {count: Math.round(seconds / 60)});
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.round((seconds - 3600 * hours) / 60);
  if (hours < 24) return t("shell.hours", {hours, minutes});
  return t("shell.days", {days: Math.floor(hours / 24), hours: hours % 24});
}

// Seconds since 1970 or an ISO time, as the browser writes times of day.
export function formatTime(value) {
  const date = new Date(typeof value === "number" ? 1000 * value : value);
  if (Number.isNaN(date.getTime())) return "–";
  return new Intl.DateTimeFormat(locale(), {dateStyle: "short", timeStyle: "short"}).format(date);
}

function trim(value, digits) {
  return Number(value.toPrecision(digits));
}
