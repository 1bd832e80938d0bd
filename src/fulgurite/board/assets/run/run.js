// One run: its state, its numbers, its curves, its findings and samples, and what can be done with it.

import {html, useEffect, useState} from "../vendor/htm-preact.js";
import {Chat} from "./chat.js";
import {formatTime} from "../app/format.js";
import {makeHash} from "../app/router.js";
import {Actions} from "./run_actions.js";
import {FurtherCurves, LossCurve} from "./run_curves.js";
import {useRun} from "./run_feed.js";
import {Findings} from "./run_findings.js";
import {State} from "./run_icons.js";
import {Numbers, Progress} from "./run_numbers.js";
import {Samples} from "./run_samples.js";
import {write} from "../app/storage.js";
import {ErrorNotice, Notice, Spinner, announce} from "../app/ui.js";

const BAD = new Set(["failed", "died", "diverged"]);

export function RunScreen({route, t, lang}) {
  const {run, curves, error} = useRun(route.id, lang);
  const [chatting, setChatting] = useState(route.query?.chat === "1");
  useEffect(() => write("run", route.id), [route.id]);
  useStateAnnounced(t, run?.state);
  if (!run) return error ? html`<${Missing} t=${t} error=${error} />` : html`<${Spinner} />`;
  return html`<article class="run stack-wide">
    <${Head} t=${t} run=${run} />
    <${ErrorNotice} error=${error} />
    <${Actions} t=${t} lang=${lang} key=${`${run.id} ${run.live}`} run=${run} isChatting=${chatting}
      toChat=${() => setChatting(!chatting)} />
    <${Diagnosis} t=${t} run=${run} />
    <${Progress} t=${t} run=${run} />
    <${Numbers} t=${t} run=${run} curves=${curves} />
    ${chatting && html`<${Chat} t=${t} lang=${lang} run=${run} onClose=${() => setChatting(false)} />`}
    <${LossCurve} t=${t} curves=${curves} findings=${run.findings} />
    <${Findings} t=${t} findings=${run.findings} />
    <${Samples} t=${t} samples=${run.samples} live=${run.live} />
    <${FurtherCurves} t=${t} curves=${curves} />
    <${Command} t=${t} run=${run} />
  </article>`;
}

function Head({t, run}) {
  return html`<header class="run-head">
    <div class="line"><h1>${run.name}</h1><${State} t=${t} state=${run.state} /></div>
    <p class="soft small"><code>${run.path ?? run.folder}</code>${typeof run.started === "number" && html`${" · "}
      ${t("run.started", {time: formatTime(run.started)})}`}</p>
    ${run.troubles?.map((trouble) => html`<p key=${trouble} class="soft small">${trouble}</p>`)}
  </header>`;
}

// Why a run ended otherwise than planned: the paragraph of diagnosis, or the reason in its status.
function Diagnosis({t, run}) {
  if (run.live || run.state === "finished") return null;
  const text = run.diagnosis || run.why;
  const isBad = BAD.has(run.state);
  return html`<${Notice} level=${isBad ? "error" : "info"} title=${t(`run.ended.${run.state}`)}>
    ${text && html`<p class="diagnosis">${text}</p>`}
    ${run.symptom && html`<p>${run.symptom.means}</p><p>${run.symptom.change}</p>`}
    ${isBad && html`<p><a href=${makeHash("parameters")}>${t("run.to_parameters")}</a></p>`}
  <//>`;
}

function Command({t, run}) {
  return html`
    ${run.output && html`<details class="panel" open=${run.state === "failed"}>
      <summary>${t("run.output")}</summary><pre class="run-command">${run.output}</pre>
    </details>`}
    ${run.command && html`<details class="panel">
      <summary>${t("run.command")}</summary><pre class="run-command">${run.command}</pre>
    </details>`}`;
}

function Missing({t, error}) {
  return html`<div class="stack"><${ErrorNotice} error=${error} />
    <p><a href=${makeHash("runs")}>${t("run.to_runs")}</a></p></div>`;
}

// A screen reader hears that a run has ended, but not the state in which it is found.
function useStateAnnounced(t, state) {
  const [before, setBefore] = useState(null);
  useEffect(() => {
    if (!state) return;
    if (before && before !== state) announce(t(`run.state.${state}`));
    setBefore(state);
  }, [state]);
}
