// Metrics and values of parameters as text: symbols and digits only.

import {trimExponent} from "../charts/chart_scale.js";

export const NONE = "–";

// Four significant digits, as people write a loss or a learning rate: 2.314, 0.0512, 5e-5.
export function formatMetric(value) {
  if (typeof value !== "number" || Number.isNaN(value)) return NONE;
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-2 || size >= 1e7) return trimExponent(value, 3);
  if (Number.isInteger(value)) return formatStep(value);
  return value.toFixed(size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : size >= 1 ? 3 : 4);
}

// A whole number with its thousands apart: both languages write 12,345.
export function formatStep(value) {
  if (typeof value !== "number" || !Number.isFinite(value)) return NONE;
  return Math.round(value).toLocaleString("en-US");
}

// A value of a parameter as one would type it.
export function formatValue(value) {
  if (value === null || value === undefined) return NONE;
  if (typeof value === "string") return value;
  if (typeof value !== "number") return JSON.stringify(value);
  const size = Math.abs(value);
  return size > 0 && size < 1e-2 ? trimExponent(value, 6) : String(value);
}

// The step of a finding; what was found before the first step has the step 0.
export function nameStep(t, step) {
  return step > 0 ? t("run.chart.step", {step: formatStep(step)}) : t("run.chart.start");
}
