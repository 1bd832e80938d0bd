// The same prompts answered before, during and after the training, side by side.

import {html, useState} from "../vendor/htm-preact.js";
import {useId} from "../app/hooks.js";
import {formatStep} from "../app/numbers.js";

export function Samples({t, samples, live}) {
  const steps = listSampleSteps(samples);
  const [chosen, setChosen] = useState(null);
  const field = useId("sample");
  if (!steps.length) return null;
  const inner = steps.slice(1, -1);
  const middle = inner.includes(chosen) ? chosen : inner[Math.floor((inner.length - 1) / 2)];
  const columns = nameColumns(t, steps, middle, live);
  return html`<section class="panel stack" aria-labelledby=${`${field}-title`}>
    <div class="line">
      <h2 id=${`${field}-title`} class="grow">${t("run.samples.title")}</h2>
      ${inner.length > 1 && html`<span class="labelled">
        <label class="soft small" for=${field}>${t("run.samples.choose")}</label>
        <select id=${field} class="input sample-step" value=${middle}
          onChange=${(event) => setChosen(Number(event.currentTarget.value))}>
          ${inner.map((step) => html`<option key=${step} value=${step}>${formatStep(step)}</option>`)}
        </select>
      </span>`}
    </div>
    ${samples.map((sample, n) => html`<article key=${n} class="sample">
      <h3 class="sample-prompt">${sample.prompt}</h3>
      <div class=${`sample-strip columns-${columns.length}`}>
        ${columns.map(({step, label}) => html`<div key=${step} class="sample-answer">
          <p class="label">${label}</p>
          <${Answer} t=${t} answer=${sample.answers.find((each) => each.step === step)} />
        </div>`)}
      </div>
    </article>`)}
  </section>`;
}

function listSampleSteps(samples) {
  const steps = new Set((samples ?? []).flatMap(({answers}) => answers.map(({step}) => step)));
  return [...steps].sort((a, b) => a - b);
}

function nameColumns(t, steps, middle, live) {
  const last = steps[steps.length - 1];
  const columns = [{step: steps[0], label: t("run.samples.before", {step: formatStep(steps[0])})}];
  if (middle !== undefined) columns.push({step: middle, label: t("run.samples.during", {step: formatStep(middle)})});
  if (steps.length > 1) {
    columns.push({step: last, label: t(live ? "run.samples.now" : "run.samples.after", {step: formatStep(last)})});
  }
  return columns;
}

// A model that has not learned yet often answers with line breaks alone, which would look like no answer.
function Answer({t, answer}) {
  if (!answer) return html`<p class="soft">${t("run.samples.none")}</p>`;
  const text = answer.text ?? "";
  if (!text.trim()) return html`<p class="soft">${t("run.samples.blank", {count: text.length})}</p>`;
  return html`<p class="sample-text">${text.replace(/^\n+|\s+$/g, "")}</p>`;
}
