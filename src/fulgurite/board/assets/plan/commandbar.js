// The bar at the bottom: the command line of the draft, a copy button, and the button that starts the run.

import {html, useEffect, useState} from "../vendor/htm-preact.js";
import {post} from "../app/api.js";
import {Icon} from "../app/icons.js";
import {findObstacle, usePlan} from "./planner.js";
import {go} from "../app/router.js";
import {write} from "../app/storage.js";
import {getDraft, useDraft} from "../app/store.js";
import {Button, CopyButton, announce} from "../app/ui.js";
import {t} from "../app/i18n.js";

export function CommandBar({lang}) {
  const planned = usePlan(lang);
  const [starting, setStarting] = useState(false);
  const [error, setError] = useState("");
  const {plan, pending} = planned;
  const obstacle = findObstacle(planned);
  const [insists, setInsists] = useState(false);
  const draft = useDraft();
  // What was refused is no longer what would start.
  useEffect(() => {
    setError("");
    setInsists(false);
  }, [draft]);
  const begin = async (anyway) => {
    setStarting(true);
    setError("");
    setInsists(false);
    announce(t("shell.starting"));
    try {
      const {launch} = await post("/api/runs", {draft: getDraft(), anyway}, {lang});
      followLaunch(launch);
    } catch (problem) {
      setError(problem.status === 0 ? t("shell.connection_lost") : problem.message);
      // Another run has the device: the server starts a second one only if it is asked twice.
      setInsists(problem.body?.anyway === true);
    } finally {
      setStarting(false);
    }
  };
  const why = error || (obstacle ? t("shell.cannot_start", {reason: obstacle}) : "");
  return html`<div class="command-bar" role="region" aria-label=${t("shell.command")}>
    ${why ? html`<p class="command-why" id="command-why" role="status"><${Icon} name="error" size=${16} />
      <span>${why}</span>
      ${insists && html`<${Button} class="small" onClick=${() => begin(true)}>${t("shell.start_anyway")}<//>`}
    </p>` : null}
    <div class="command-row">
      <code class=${`command-text ${pending ? "stale" : ""}`} tabindex="0" aria-label=${t("shell.command")}>${
        plan?.command ?? t("shell.no_command")}</code>
      <${CopyButton} text=${plan?.command ?? ""} label=${t("shell.copy_command")} />
      <${Button} kind="primary" onClick=${() => begin(false)} disabled=${starting || !plan || Boolean(obstacle)}
        aria-describedby=${why ? "command-why" : null}>${labelStart(starting)}<//>
    </div>
  </div>`;
}

function labelStart(starting) {
  if (starting) return t("shell.starting");
  return t(getDraft().adds.sweep ? "shell.start_search" : "shell.start_training");
}

// The run itself as soon as it has a folder; until then a page that waits for it.
export function followLaunch(launch) {
  if (launch.run) {
    write("run", launch.run);
    go("run", launch.run);
  } else {
    go("launch", launch.id);
  }
}
