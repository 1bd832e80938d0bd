// What the monitor found during a run, the newest first: severity in picture and word, the sentence, the remedy.

import {html} from "./vendor/htm-preact.js";
import {nameStep} from "./numbers.js";
import {SeverityIcon} from "./run_icons.js";

export function Findings({t, findings}) {
  if (!findings?.length) return null;
  const newest = [...findings].sort((a, b) => (b.step ?? -1) - (a.step ?? -1));
  return html`<section class="panel stack" aria-label=${t("run.findings.title")}>
    <h2>${t("run.findings.title")}</h2>
    <ul class="run-findings">
      ${newest.map((finding, n) => html`<li key=${n} class=${"run-finding"}>
        <${SeverityIcon} severity=${finding.severity} />
        <div class="run-finding-text">
          <p class="run-finding-head">
            <b>${t(`run.severity.${finding.severity}`)}</b>
            ${Number.isFinite(finding.step) && html`<span>
              ${nameStep(t, finding.step)}
            </span>`}
            <code>${finding.rule}</code>
          </p>
          <p>${finding.sentence}</p>
          ${finding.remedy && html`<p class="soft">${finding.remedy}</p>`}
        </div>
      </li>`)}
    </ul>
  </section>`;
}
