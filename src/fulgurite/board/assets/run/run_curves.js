// The curves of a run: the loss with its findings, then a small chart for each further number.

import {html, useMemo} from "../vendor/htm-preact.js";
import {LineChart} from "../charts/chart.js";
import {formatPercent} from "../app/format.js";

// What every run logs, in this order; each has a text `run.curve.NAME`.
const KNOWN = ["lr", "grad_norm", "clipped", "tokens_per_second", "update_ratio"];
const DRAWN_WITH_LOSS = new Set(["train/loss", "val/loss", "smoothed", "clipped_share"]);

export function LossCurve({t, curves, findings}) {
  const {series} = curves;
  const loss = useMemo(() => listLoss(t, series), [series]);
  const markers = useMemo(() => (findings ?? []).filter(({step}) => Number.isFinite(step)).map(
    ({step, severity, sentence}) => ({step, severity, text: sentence})), [findings]);
  return html`<section class="panel" aria-label=${t("run.curve.loss")}>
    <${LineChart} t=${t} title=${t("run.curve.loss")} series=${loss} markers=${markers} height=${300} canLog
      growing />
  </section>`;
}

export function FurtherCurves({t, curves}) {
  const charts = useMemo(() => listOthers(t, curves.series), [curves.series]);
  if (!charts.length) return null;
  return html`<div class="chart-grid-of">
    ${charts.map(({name, title, series}) => html`<section key=${name} class="panel" aria-label=${title}>
      <${LineChart} t=${t} title=${title} series=${series} height=${150} growing />
    </section>`)}
  </div>`;
}

function listLoss(t, series) {
  return [
    {id: "train/loss", label: t("run.curve.raw"), tone: 1, points: series["train/loss"] ?? [], faint: true},
    {id: "smoothed", label: t("run.curve.smoothed"), tone: 1, points: series.smoothed ?? []},
    {id: "val/loss", label: t("run.curve.validation"), tone: 2, points: series["val/loss"] ?? [], dots: true},
  ];
}

// A chart for each number; train/x and val/x share one. Names without a text are codes of the stage, such as `reward`.
function listOthers(t, series) {
  const names = new Set(Object.keys(series).filter((name) => !DRAWN_WITH_LOSS.has(name)).map(cutHead));
  const further = [...names].filter((name) => !KNOWN.includes(name)).sort();
  return [...KNOWN.filter((name) => names.has(name)), ...further].map((name) => {
    const title = KNOWN.includes(name) ? t(`run.curve.${name}`) : name;
    return {name, title, series: name === "clipped" ? [drawShare(title, series)] : drawPair(t, name, title, series)};
  });
}

function drawPair(t, name, title, series) {
  const [train, val] = [series[`train/${name}`] ?? series[name] ?? [], series[`val/${name}`] ?? []];
  const lines = [{id: name, label: val.length ? t("run.curve.training") : title, tone: 1, points: train, noisy: true}];
  if (val.length) lines.push({id: `val/${name}`, label: t("run.curve.validation"), tone: 2, points: val, dots: true});
  return lines;
}

// Whether one step was clipped is 0 or 1; the share of the last steps can be read.
function drawShare(title, series) {
  const points = series.clipped_share ?? series["train/clipped"];
  return {id: "clipped", label: title, tone: 1, points, format: (value) => formatPercent(value)};
}

function cutHead(name) {
  return name.replace(/^(train|val)\//, "");
}
