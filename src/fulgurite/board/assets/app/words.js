// The run as a command line and as YAML, to be copied.

import {html} from "../vendor/htm-preact.js";
import {CopyButton} from "./ui.js";

export function Words({t, plan}) {
  return html`<section class="panel stack" aria-labelledby="plan-words"><h2 id="plan-words">${t("plan.words")}</h2>
    <${Block} title=${t("plan.command")} text=${plan.command} label=${t("shell.copy_command")} />
    ${plan.yaml ? html`<${Block} title=${t("plan.yaml")} text=${plan.yaml} label=${t("plan.copy_yaml")} />` : null}
  </section>`;
}

function Block({title, text, label}) {
  return html`<div class="block">
    <div class="line block-head"><h3>${title}</h3><${CopyButton} text=${text} label=${label} /></div>
    <pre class="output" tabindex="0" role="region" aria-label=${title}>${text}</pre>
  </div>`;
}
