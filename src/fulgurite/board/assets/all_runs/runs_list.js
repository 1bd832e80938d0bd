// The table of runs, and the commands that were started from the page and have no run yet.

import {html, useState} from "../vendor/htm-preact.js";
import {post} from "../app/api.js";
import {formatDuration, formatTime} from "../app/format.js";
import {formatMetric, formatStep} from "../app/numbers.js";
import {go, makeHash} from "../app/router.js";
import {ExportDialog, openAsDraft} from "../run/run_actions.js";
import {State} from "../run/run_icons.js";
import {ErrorNotice, IconButton} from "../app/ui.js";

const HEADS = ["choose", "run", "state", "steps", "loss", "val_loss", "best_val_loss", "seconds", "actions"];

export function RunList({t, lang, runs, chosen, choose}) {
  const [error, setError] = useState(null);
  const [exported, setExported] = useState(null);
  const act = (action) => action().then(() => setError(null), setError);
  const start = (format) => act(async () => {
    const {launch} = await post(`/api/runs/${encodeURIComponent(exported.id)}/export`, {format}, {lang});
    go("launch", launch.id);
  });
  const open = (run) => act(() => openAsDraft(run.id, lang));
  // Narrow screens show the rows as cards; the roles keep the table a table for screen readers.
  return html`
    <${ErrorNotice} error=${error} />
    <table class="run-table" role="table">
      <thead role="rowgroup"><tr role="row">
        ${HEADS.map((head) => html`<th key=${head} role="columnheader" scope="col" class=${`cell-${head}`}>
          <span class=${head === "choose" || head === "actions" ? "hidden" : ""}>${t(`runs.head.${head}`)}</span>
        </th>`)}
      </tr></thead>
      <tbody role="rowgroup">${runs.map((run) => html`<${Row} key=${run.id} t=${t} run=${run}
        isChosen=${chosen.includes(run.id)} choose=${choose} open=${open} toExport=${setExported} />`)}</tbody>
    </table>
    ${exported && html`<${ExportDialog} t=${t} onClose=${() => setExported(null)} onStart=${start} />`}`;
}

function Row({t, run, isChosen, choose, open, toExport}) {
  const {name} = run;
  const chat = () => go("run", run.id, {query: {chat: "1"}});
  const mark = (event) => choose(run.id, event.currentTarget.checked);
  return html`<tr role="row" class=${isChosen ? "is-chosen" : ""}>
    <td role="cell" class="cell-choose"><input type="checkbox" checked=${isChosen}
      aria-label=${t("runs.compare", {name})} onChange=${mark} /></td>
    <td role="cell" class="cell-run"><a href=${makeHash("run", run.id)}>${name}</a>
      <span class="soft small run-folder">${run.folder}</span></td>
    <td role="cell" class="cell-state"><${State} t=${t} state=${run.state} /></td>
    <${Cell} t=${t} name="steps" text=${showSteps(run)} />
    <${Cell} t=${t} name="loss" text=${formatMetric(run.loss)} />
    <${Cell} t=${t} name="val_loss" text=${formatMetric(run.val_loss)} />
    <${Cell} t=${t} name="best_val_loss" text=${formatMetric(run.best_val_loss)} />
    <${Cell} t=${t} name="seconds" text=${formatDuration(run.seconds)}
      note=${typeof run.started === "number" ? formatTime(run.started) : ""} />
    <td role="cell" class="cell-actions"><span class="row-actions">
      <${IconButton} icon="parameters" label=${t("runs.open", {name})} onClick=${() => open(run)} />
      <${IconButton} icon="chat" label=${t("runs.chat", {name})} disabled=${run.checkpoint === null}
        onClick=${chat} />
      <${IconButton} icon="export" label=${t("runs.export", {name})}
        disabled=${run.checkpoint === null} onClick=${() => toExport(run)} />
    </span></td>
  </tr>`;
}

function Cell({t, name, text, note = ""}) {
  return html`<td role="cell" class=${`cell-number cell-${name}`}>
    <span class="cell-label soft small" aria-hidden="true">${t(`runs.head.${name}`)}</span>${text}
    ${note && html`<span class="soft small run-folder">${note}</span>`}
  </td>`;
}

function showSteps({steps, total_steps: total}) {
  return total ? `${formatStep(steps)} / ${formatStep(total)}` : formatStep(steps);
}

const A_DAY = 86_400;

function isOpen({run, sweep, state, exit, started}) {
  if (run || sweep) return false;
  return state !== "ended" || (Boolean(exit) && Date.now() / 1000 - started < A_DAY);
}

// Commands that have begun and have no folder yet, and those that were refused: they have no run to be found by.
export function Launches({t, launches}) {
  const open = (launches ?? []).filter(isOpen);
  if (!open.length) return null;
  return html`<section class="panel stack" aria-label=${t("runs.launches")}>
    <h2>${t("runs.launches")}</h2>
    <ul class="launches">${open.slice(0, 5).map((launch) => html`<li key=${launch.id} class="line">
      <${State} t=${t} state=${launch.state === "ended" ? "failed" : "starting"} />
      <a class="grow" href=${makeHash("launch", launch.id)}><code>${launch.command}</code></a>
    </li>`)}</ul>
  </section>`;
}
