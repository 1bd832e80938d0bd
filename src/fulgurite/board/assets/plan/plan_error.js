// The error of the newest draft, above the plan of the draft before it.

import {html} from "../vendor/htm-preact.js";
import {ErrorRemedy} from "../parameters/apply.js";
import {retryPlan} from "./planner.js";
import {makeHash} from "../app/router.js";
import {Button, ErrorNotice} from "../app/ui.js";

export function PlanError({t, planned}) {
  const {error, plan, about} = planned;
  if (!error) return null;
  return html`<div class="stack">
    <${ErrorNotice} error=${error} title=${t("plan.refused_draft")}><${ErrorRemedy} error=${error} /><//>
    <div class="line small">
      ${about ? html`<a href=${makeHash("parameters", "", {find: about})}>${t("plan.show_parameter",
        {name: about})}</a>` : null}
      ${error.status >= 500 ? html`<${Button} class="small" onClick=${retryPlan}>${t("shell.try_again")}<//>` : null}
      ${plan ? html`<span class="soft">${t("plan.old_plan")}</span>` : null}
    </div>
  </div>`;
}
