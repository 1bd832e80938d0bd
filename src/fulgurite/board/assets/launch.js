// Waits for the run of a command that was just started, and shows what the command printed if it ends without one.

import {html, useEffect, useState} from "./vendor/htm-preact.js";
import {get} from "./api.js";
import {go, makeHash} from "./router.js";
import {write} from "./storage.js";
import {ErrorNotice, Notice, Spinner} from "./ui.js";

const EVERY = 500;

export function LaunchScreen({route, t, lang}) {
  const {launch, error} = useLaunch(route.id, lang);
  useEffect(() => {
    if (!launch?.run) return;
    write("run", launch.run);
    go("run", launch.run, {replace: true});
  }, [launch?.run]);
  // A search has many runs, which the list shows under it.
  const search = launch?.kind === "sweep" && launch.state === "running";
  useEffect(() => {
    if (search) go("runs", "", {replace: true});
  }, [search]);
  const ended = launch?.state === "ended";
  return html`
    <header class="screen-head"><h1>${t("shell.nav_launch")}</h1></header>
    <${ErrorNotice} error=${error} />
    ${launch ? html`<div class="panel stack">
      ${ended ? html`<${Notice} level=${launch.exit ? "error" : "ok"} live
          title=${t(launch.exit ? "shell.launch_failed" : "shell.launch_ended")} />`
        : html`<${Spinner} label=${t("shell.launch_started")} />`}
      <code class="command-text">${launch.command}</code>
      ${launch.output ? html`<h2>${t("shell.launch_output")}</h2><pre class="output" tabindex="0">${launch.output}</pre>` : null}
      ${ended ? html`<p class="line"><a class="button" href=${makeHash("parameters")}>${t("shell.launch_back")}</a>
        <a class="button" href=${makeHash("runs")}>${t("shell.launch_runs")}</a></p>` : null}
    </div>` : null}`;
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
        if (launch.state === "ended" || launch.run) return;
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
