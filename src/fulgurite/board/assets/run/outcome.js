// What comes out of the questions: one sentence about the run, how it fits into the memory, and the two ways on.

import {html} from "../vendor/htm-preact.js";
import {AppliedLine, ErrorRemedy} from "../parameters/apply.js";
import {formatBytes} from "../app/format.js";
import {makeHash} from "../app/router.js";
import {FindingList} from "../plan/findings.js";
import {Chip, ErrorNotice, Spinner} from "../app/ui.js";

export function Outcome({t, planned}) {
  const {plan, error, pending, preparing} = planned;
  return html`<div class="panel outcome stack">
    <h2>${t("start.outcome")}</h2>
    ${plan && !error ? html`<p class=${`outcome-sentence ${pending ? "stale" : ""}`}
      aria-live="polite">${plan.sentence}</p>` : null}
    ${pending && (preparing || !plan) ? html`<${Spinner} label=${preparing || t("start.planning")} />` : null}
    <${ErrorNotice} error=${error}><${ErrorRemedy} error=${error} /><//>
    ${error ? html`<${AppliedLine} />` : null}
    ${plan?.memory && !error ? html`<${Fit} t=${t} memory=${plan.memory} />` : null}
    <p class="line"><a class="button" href=${makeHash("plan")}>${t("start.to_plan")}</a>
      <a class="button" href=${makeHash("parameters")}>${t("start.to_parameters")}</a></p>
    ${plan && !error ? html`<${FindingList} t=${t} findings=${plan.findings} short />` : null}
  </div>`;
}

const LEVELS = {ok: "ok", tight: "warning", over: "error"};

function Fit({t, memory}) {
  const facts = {peak: formatBytes(memory.peak), free: formatBytes(memory.free)};
  return html`<p><${Chip} level=${LEVELS[memory.level]}>${t(`plan.level_${memory.level}`)}<//>
    <span class="small soft"> ${t("plan.peak_of_free", facts)}</span></p>`;
}
