// Waits for the run of a command that was just started, and shows what the command printed if it ends without one.

import {html, useEffect, useState} from "../vendor/htm-preact.js";
import {get, post} from "../app/api.js";
import {go, makeHash} from "../app/router.js";
import {write} from "../app/storage.js";
import {Button, ErrorNotice, Notice, Spinner} from "../app/ui.js";

const EVERY = 500;

export function LaunchScreen({route, t, lang}) {
  const {launch, error} = useLaunch(route.id, lang);
  const next = launch ? findNext(launch) : null;
  useEffect(() => {
    if (next === "run") write("run", launch.run);
    if (next) go(next, next === "run" ? launch.run : "", {replace: true});
  }, [next]);
  return html`
    <header class="screen-head"><h1>${t("shell.nav_launch")}</h1></header>
    <${ErrorNotice} error=${error} />
    ${launch && html`<div class="panel stack">
      <${Outcome} t=${t} launch=${launch} />
      <code class="command-text">${launch.command}</code>
      ${launch.output && html`<h2>${t("shell.launch_output")}</h2>
        <pre class="output" tabindex="0" role="region" aria-label=${t("shell.launch_output")}>${launch.output}</pre>`}
      ${launch.state === "ended" ? html`<${WayOn} t=${t} launch=${launch} />`
        : html`<${StopButton} t=${t} lang=${lang} launch=${launch} />`}
    </div>`}`;
}

// The screen to go to: the run once it has begun, the list for a search, which has many. None for an export, and for
// a command that was refused: its sentence is shown here.
function findNext({kind, state, exit, run, sweep}) {
  const hasBegun = state === "running" || (state === "ended" && (!exit || kind === "train"));
  if (kind === "export" || !hasBegun) return null;
  if (run) return "run";
  return kind === "sweep" && (sweep || state === "running") ? "runs" : null;
}

function Outcome({t, launch}) {
  const {state, exit, error, kind} = launch;
  if (state !== "ended") {
    return html`<${Spinner} label=${t(kind === "export" ? "run.export.running" : "shell.launch_started")} />`;
  }
  if (!exit) {
    return html`<${Notice} level="ok" live title=${t(kind === "export" ? "run.export.done" : "shell.launch_ended")} />`;
  }
  const title = t(kind === "export" ? "run.export.failed" : "shell.launch_failed");
  return html`<${Notice} level="error" live title=${title}>${error && html`<p>${error}</p>`}<//>`;
}

function WayOn({t, launch}) {
  return html`<p class="line">
    ${launch.kind !== "export" && html`<a class="button primary" href=${makeHash("parameters")}>
      ${t("shell.launch_back")}</a>`}
    ${launch.run && html`<a class="button" href=${makeHash("run", launch.run)}>${t("run.to_run")}</a>`}
    <a class="button" href=${makeHash("runs")}>${t("shell.launch_runs")}</a>
  </p>`;
}

// Stops a command that has no run yet, or a search. The button stays off: saving takes a moment.
export function StopButton({t, lang, launch}) {
  const [asked, setAsked] = useState(false);
  const [error, setError] = useState(null);
  const stop = () => {
    setAsked(true);
    post(`/api/launches/${encodeURIComponent(launch.id)}/stop`, {}, {lang}).catch((problem) => {
      setError(problem);
      setAsked(false);
    });
  };
  const isStopping = asked || launch.stopping;
  return html`<div class="line">
    <${Button} icon="stop" disabled=${isStopping} onClick=${stop}>
      ${t(isStopping ? "run.action.ending" : "run.action.end")}<//>
    <${ErrorNotice} error=${error} />
  </div>`;
}

function useLaunch(id, lang) {
  const [state, setState] = useState({launch: null, error: null});
  useEffect(() => {
    let timer = 0;
    let current = true;
    const ask = async () => {
      try {
        const answer = await get(`/api/launches/${encodeURIComponent(id)}`, {lang});
        const launch = answer.launch ?? answer;
        if (!current) return;
        setState({launch, error: null});
        if (launch.state === "ended" || findNext(launch)) return;
      } catch (error) {
        if (current) setState((held) => ({...held, error: error.status === 0 ? null : error}));
        if (error.status !== 0) return;
      }
      timer = setTimeout(ask, EVERY);
    };
    ask();
    return () => {
      current = false;
      clearTimeout(timer);
    };
  }, [id, lang]);
  return state;
}
