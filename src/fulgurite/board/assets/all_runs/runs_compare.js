// Chosen runs beside each other: their curves in one chart, and the parameters in which they differ.

import {html, useMemo, useState} from "../vendor/htm-preact.js";
import {LineChart} from "../charts/chart.js";
import {useId} from "../app/hooks.js";
import {formatValue} from "../app/numbers.js";
import {makeHash} from "../app/router.js";
import {useCurves} from "./runs_feed.js";

const FIRST = ["smoothed", "val/loss", "train/loss", "train/lr", "train/grad_norm"];

export function Compare({t, runs, all, differences, round}) {
  const curves = useCurves(runs, round);
  const [metric, setMetric] = useState(FIRST[0]);
  const field = useId("metric");
  const pick = (event) => setMetric(event.currentTarget.value);
  const names = useMemo(() => listMetrics(runs, curves), [runs, curves]);
  const labels = useMemo(() => nameRuns(runs), [runs]);
  const series = useMemo(() => runs.map(({id}, n) => ({
    id, label: labels[id], tone: n + 1, points: curves[id]?.series[metric] ?? [], dots: metric.startsWith("val/"),
  })), [runs, curves, metric]);
  return html`
    ${runs.length > 0 && html`<section class="panel stack" aria-labelledby=${`${field}-title`}>
      <div class="line"><h2 class="grow" id=${`${field}-title`}>${t("runs.curves")}</h2>
        <span class="labelled"><label class="soft small" for=${field}>${t("runs.metric")}</label>
          <select id=${field} class="input metric" value=${metric} onChange=${pick}>
            ${names.map((name) => html`<option key=${name} value=${name}>${nameMetric(t, name)}</option>`)}
          </select></span></div>
      <${LineChart} t=${t} title=${nameMetric(t, metric)} series=${series} height=${300} canLog />
    </section>`}
    <${Differences} t=${t} runs=${runs.length > 1 ? runs : all} differences=${differences} />`;
}

function listMetrics(runs, curves) {
  const found = new Set(runs.flatMap(({id}) => Object.keys(curves[id]?.series ?? {})));
  return [...FIRST, ...[...found].filter((name) => !FIRST.includes(name)).sort()];
}

function nameMetric(t, name) {
  return name === "smoothed" ? t("runs.metric_smoothed") : name;
}

// Runs with the same name are told apart by their folder.
function nameRuns(runs) {
  const names = runs.map(({name}) => name);
  const label = ({name, folder}) => (names.filter((each) => each === name).length > 1 ? folder : name);
  return Object.fromEntries(runs.map((run) => [run.id, label(run)]));
}

function Differences({t, runs, differences}) {
  const shown = useMemo(() => pickDifferent(runs, differences ?? {}), [runs, differences]);
  const labels = useMemo(() => nameRuns(runs), [runs]);
  if (runs.length < 2 || !shown.length) return null;
  return html`<section class="panel stack" aria-label=${t("runs.differences")}>
    <h2>${t("runs.differences")}</h2>
    <div class="wide-table sticky-first" tabindex="0" role="region" aria-label=${t("runs.differences")}>
      <table>
        <thead><tr><th scope="col">${t("runs.head.run")}</th>
          ${shown.map((name) => html`<th key=${name} scope="col"><code>${name}</code></th>`)}</tr></thead>
        <tbody>${runs.map((run) => html`<tr key=${run.id}>
          <th scope="row"><a href=${makeHash("run", run.id)}>${labels[run.id]}</a></th>
          ${shown.map((name) => html`<td key=${name}>${formatValue(differences[name][run.id])}</td>`)}
        </tr>`)}</tbody>
      </table>
    </div>
  </section>`;
}

// The parameters in which these runs differ; those of the server are about all runs.
function pickDifferent(runs, differences) {
  return Object.keys(differences).filter((name) => {
    const values = runs.map(({id}) => JSON.stringify(differences[name][id] ?? null));
    return new Set(values).size > 1;
  });
}
