// The numbers of a run at a glance: how far it is, how well it learns, how fast, how long still.

import {html} from "../vendor/htm-preact.js";
import {formatDuration, formatPercent} from "../app/format.js";
import {NONE, formatMetric, formatStep} from "../app/numbers.js";
import {readLast} from "./run_rows.js";

export function Progress({t, run}) {
  const {steps, total_steps: total} = run;
  if (!total) return null;
  return html`<progress class="run-progress" max=${total} value=${Math.min(steps ?? 0, total)}
    aria-label=${t("run.number.step")}></progress>`;
}

export function Numbers({t, run, curves}) {
  const {series} = curves;
  const loss = readLast(series.smoothed) ?? readLast(series["train/loss"]) ?? run.loss;
  const {best_val_loss: lowest} = run;
  const best = typeof lowest === "number" ? t("run.number.best", {value: formatMetric(lowest)}) : "";
  const speed = readLast(series["train/tokens_per_second"]) ?? run.tokens_per_second;
  const share = series.clipped_share ?? series["train/clipped"];
  return html`<dl class="run-numbers">
    <${Figure} label=${t("run.number.step")} value=${formatStep(run.steps)} note=${describePart(run)} />
    <${Figure} label=${t("run.number.loss")} value=${formatMetric(loss)} />
    <${Figure} label=${t("run.number.validation")} value=${formatMetric(readLast(series["val/loss"]) ?? run.val_loss)}
      note=${best} />
    <${Figure} label=${t("run.number.lr")} value=${formatMetric(readLast(series["train/lr"]))} />
    <${Figure} label=${t("run.number.grad_norm")} value=${formatMetric(readLast(series["train/grad_norm"]))} />
    <${Figure} label=${t("run.number.clipped")} value=${share ? formatPercent(readLast(share)) : NONE} />
    <${Figure} label=${t("run.number.speed")} value=${formatMetric(round(speed))} />
    <${Figure} label=${t(run.live ? "run.number.left" : "run.number.took")}
      value=${formatDuration(run.live ? run.eta : run.seconds)} />
  </dl>`;
}

function Figure({label, value, note}) {
  return html`<div class="run-number"><dt>${label}</dt><dd>${value}${note && html`<small>${note}</small>`}</dd></div>`;
}

function describePart({steps, total_steps: total}) {
  return total ? `/ ${formatStep(total)} · ${formatPercent(Math.min(1, (steps ?? 0) / total))}` : "";
}

function round(value) {
  return typeof value === "number" ? Math.round(value) : value;
}
