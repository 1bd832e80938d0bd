// A search: the best value so far, how much each parameter mattered, and its trials.

import {html, useMemo} from "../vendor/htm-preact.js";
import {LineChart} from "../charts/chart.js";
import {formatPercent} from "../app/format.js";
import {StopButton} from "../run/launch.js";
import {formatMetric, formatValue} from "../app/numbers.js";
import {makeHash} from "../app/router.js";
import {State} from "../run/run_icons.js";
import {Notice} from "../app/ui.js";

// Optuna's states of a trial, as those of a run.
const STATES = {complete: "finished", fail: "failed"};

export function Sweep({t, lang, sweep, launch}) {
  const names = useMemo(() => [...new Set(sweep.trials.flatMap(({params}) => Object.keys(params ?? {})))], [sweep]);
  const best = sweep.trials.find(({number}) => number === sweep.best);
  const title = t("runs.sweep.title", {folder: sweep.folder || sweep.name});
  return html`<section class="panel stack sweep" aria-label=${title}>
    <h2>${title}</h2>
    ${launch && launch.state !== "ended" && html`<${StopButton} t=${t} lang=${lang} launch=${launch} />`}
    ${launch?.state === "ended" && launch.error && html`<${Notice} level="error"><p>${launch.error}</p><//>`}
    <p class="soft">${t(`runs.sweep.${sweep.goal === "maximize" ? "maximize" : "minimize"}`, {metric: sweep.metric})}
      ${best && html`${" "}${t("runs.sweep.best", {number: best.number, value: formatMetric(best.value)})}`}</p>
    <div class="sweep-parts">
      <${Course} t=${t} sweep=${sweep} />
      <${Importance} t=${t} importance=${sweep.importance} />
    </div>
    <${Trials} t=${t} sweep=${sweep} names=${names} />
  </section>`;
}

function Course({t, sweep}) {
  const series = useMemo(() => {
    const done = sweep.trials.filter(({value}) => typeof value === "number");
    const values = done.map(({number, value}) => [number, value]);
    const better = sweep.goal === "maximize" ? Math.max : Math.min;
    let best = null;
    const bests = values.map(([number, value]) => [number, (best = best === null ? value : better(best, value))]);
    return [
      {id: "value", label: sweep.metric, tone: 1, points: values, faint: true, dots: true},
      {id: "best", label: t("runs.sweep.so_far"), tone: 1, points: bests},
    ];
  }, [sweep]);
  return html`<${LineChart} t=${t} title=${t("runs.sweep.course")} series=${series} height=${180}
    unit="runs.sweep.trial" />`;
}

function Importance({t, importance}) {
  const sorted = Object.entries(importance ?? {}).sort(([, a], [, b]) => b - a);
  if (!sorted.length) return null;
  return html`<div class="importance">
    <h3>${t("runs.sweep.importance")}</h3>
    <dl>${sorted.map(([name, share]) => html`<div key=${name} class="importance-row">
      <dt><code>${name}</code></dt>
      <dd><span class="importance-bar" aria-hidden="true"><i style=${{width: limitWidth(share)}}></i></span>
        ${formatPercent(share)}</dd>
    </div>`)}</dl>
  </div>`;
}

function limitWidth(share) {
  return `${Math.max(0, Math.min(1, share)) * 100}%`;
}

function Trials({t, sweep, names}) {
  return html`<div class="wide-table" tabindex="0" role="region" aria-label=${t("runs.sweep.trials")}>
    <table>
      <thead><tr>
        <th scope="col">${t("runs.sweep.number")}</th><th scope="col">${t("runs.head.state")}</th>
        <th scope="col">${sweep.metric}</th>
        ${names.map((name) => html`<th key=${name} scope="col"><code>${name}</code></th>`)}
      </tr></thead>
      <tbody>${sweep.trials.map((trial) => html`<${Trial} key=${trial.number} t=${t} trial=${trial} names=${names}
        isBest=${trial.number === sweep.best} />`)}</tbody>
    </table>
  </div>`;
}

function Trial({t, trial, names, isBest}) {
  const {number, run, state, value, params, why} = trial;
  return html`<tr class=${isBest ? "is-best" : ""}>
    <th scope="row">${run ? html`<a href=${makeHash("run", run)}>${number}</a>` : number}
      ${isBest && html`${" "}<span class="chip ok">${t("runs.sweep.is_best")}</span>`}</th>
    <td><${State} t=${t} state=${STATES[state] ?? state} />
      ${why && html`<span class="soft small trial-why">${why}</span>`}</td>
    <td>${formatMetric(value)}</td>
    ${names.map((name) => html`<td key=${name}>${formatValue(params?.[name])}</td>`)}
  </tr>`;
}
