// The findings about the run, each with the button that applies its remedy.

import {html} from "../vendor/htm-preact.js";
import {AppliedLine, ApplyButton} from "../parameters/apply.js";
import {t} from "../app/i18n.js";
import {Icon} from "../app/icons.js";
import {makeHash} from "../app/router.js";
import {Chip, rich} from "../app/ui.js";

const ORDER = ["error", "stop", "warning", "note"];
const LEVELS = {error: "error", stop: "error", warning: "warning", note: "info"};
const ICONS = {error: "error", stop: "error", warning: "warn", note: "info"};

// `short`: beside the questions only what needs an answer.
export function FindingList({findings, short = false}) {
  const sorted = [...findings].sort((one, two) => ORDER.indexOf(one.severity) - ORDER.indexOf(two.severity));
  const shown = short ? sorted.filter((one) => one.severity !== "note" && !one.allowed) : sorted;
  return html`<div class="stack findings">
    <${AppliedLine} />
    ${!shown.length && !short ? html`<p class="line soft"><${Icon} name="check" />${t("plan.no_findings")}</p>` : null}
    ${shown.length ? html`<ul class="stack">${shown.map((finding) => html`<${FindingEntry}
      key=${`${finding.rule} ${finding.about} ${finding.sentence}`}
      finding=${finding} short=${short} />`)}</ul>` : null}
  </div>`;
}

function FindingEntry({finding, short}) {
  const {severity, sentence, remedy, about, allowed} = finding;
  return html`<li class=${`notice ${LEVELS[severity] ?? "info"} finding`}>
    <${Icon} name=${ICONS[severity] ?? "info"} />
    <div class="notice-text">
      <p><strong class="severity">${t(`plan.severity_${severity}`)}</strong> ${rich(sentence)} ${allowed
        ? html`<${Chip}>${t("plan.allowed")}<//>` : null}</p>
      ${remedy && !finding.changes ? html`<p class="soft">${rich(remedy)}</p>` : null}
      <div class="line">
        <${ApplyButton} changes=${finding.changes} />
        ${short ? null : html`<${ApplyButton} changes=${finding.insist} text="plan.insist" kind="quiet" />`}
        ${about && !short ? html`<a class="small"
          href=${makeHash("parameters", "", {find: about})}>${finding.title || html`<code>${about}</code>`}</a>` : null}
      </div>
    </div>
  </li>`;
}
