// What was found before and during a run, the newest first: severity in picture and word, the sentence, the remedy.

import {html} from "../vendor/htm-preact.js";
import {nameStep} from "../app/numbers.js";
import {SeverityIcon} from "./run_icons.js";

export function Findings({t, findings}) {
  if (!findings?.length) return null;
  const newest = [...findings].sort((a, b) => b.step - a.step);
  const [during, before] = [newest.filter(({step}) => step > 0), newest.filter(({step}) => !(step > 0))];
  return html`<section class="panel stack" aria-label=${t("run.findings.title")}>
    <h2>${t("run.findings.title")}</h2>
    ${during.length > 0 && html`<${List} t=${t} findings=${during} />`}
    ${before.length > 0 && html`<details>
      <summary>${t("run.findings.before", {count: before.length})}</summary><${List} t=${t} findings=${before} />
    </details>`}
  </section>`;
}

function List({t, findings}) {
  return html`<ul class="run-findings">
    ${findings.map((finding, n) => html`<li key=${n} class="run-finding">
      <${SeverityIcon} severity=${finding.severity} />
      <div class="run-finding-text">
        <p class="run-finding-head">
          <b>${t(`run.severity.${finding.severity}`)}</b>
          ${finding.step > 0 && html`<span>${nameStep(t, finding.step)}</span>`}
          <code>${finding.rule}</code>
        </p>
        <p>${finding.sentence}</p>
        ${finding.remedy && html`<p class="soft">${finding.remedy}</p>`}
      </div>
    </li>`)}
  </ul>`;
}
