// The findings about the run, each with the button that applies its remedy.

import {html, useState} from "./vendor/htm-preact.js";
import {Icon} from "./icons.js";
import {t} from "./i18n.js";
import {makeHash} from "./router.js";
import {change, undo, useDraft} from "./store.js";
import {Button, Chip, announce} from "./ui.js";

const ORDER = ["error", "stop", "warning", "note"];
const LEVELS = {error: "error", stop: "error", warning: "warning", note: "info"};
const ICONS = {error: "error", stop: "error", warning: "warn", note: "info"};

// What a button did last, so that a line can take it back as long as nothing else was changed.
let applied = {words: "", draft: ""};

export function FindingList({findings, short = false}) {
  const draft = useDraft();
  const [, redraw] = useState(0);
  const sorted = [...findings].sort((one, two) => ORDER.indexOf(one.severity) - ORDER.indexOf(two.severity));
  // Beside the questions only what needs an answer.
  const shown = short ? sorted.filter((one) => one.severity !== "note" && !one.allowed) : sorted;
  const apply = (finding) => {
    change(finding.changes);
    applied = {words: describeChanges(finding.changes), draft: JSON.stringify(draftAfter(draft, finding.changes))};
    announce(t("plan.applied", {words: applied.words}));
    redraw((n) => n + 1);
  };
  return html`<div class="stack findings">
    <${AppliedLine} draft=${draft} />
    ${!shown.length && !short ? html`<p class="line soft"><${Icon} name="check" />${t("plan.no_findings")}</p>` : null}
    <ul class="stack">${shown.map((finding) => html`<${FindingEntry} key=${`${finding.rule} ${finding.about} ${finding.sentence}`}
      finding=${finding} onApply=${apply} short=${short} />`)}</ul>
  </div>`;
}

function draftAfter(draft, changes) {
  const out = {};
  for (const part of Object.keys(draft)) {
    out[part] = {...draft[part]};
    for (const [name, word] of Object.entries(changes[part] ?? {})) {
      if (word === null || word === "") delete out[part][name];
      else out[part][name] = String(word);
    }
  }
  return out;
}

function AppliedLine({draft}) {
  if (!applied.draft || applied.draft !== JSON.stringify(draft)) return null;
  return html`<p class="applied line"><${Icon} name="check" /><span class="grow">${t("plan.applied", {words: applied.words})}</span>
    <${Button} class="small" icon="undo" onClick=${undo}>${t("shell.undo")}<//></p>`;
}

function FindingEntry({finding, onApply, short}) {
  const words = describeChanges(finding.changes);
  const label = t(`plan.severity_${finding.severity}`);
  return html`<li class=${`notice ${LEVELS[finding.severity] ?? "info"} finding`}>
    <${Icon} name=${ICONS[finding.severity] ?? "info"} />
    <div class="notice-text">
      <p><strong class="severity">${label}${finding.allowed ? html` <${Chip}>${t("plan.allowed")}<//>` : null}</strong> ${finding.sentence}</p>
      ${finding.remedy ? html`<p class="remedy soft">${finding.remedy}</p>` : null}
      <div class="line">
        ${words ? html`<${Button} class="small" onClick=${() => onApply(finding)}>${t("plan.apply", {words})}<//>` : null}
        ${finding.about && !short ? html`<a class="small" href=${makeHash("parameters", "", {find: finding.about})}>
          <code>${finding.about}</code></a>` : null}
      </div>
    </div>
  </li>`;
}

// A change as one would type it: `method=lora optim.lr=1e-4`; what is taken out is named.
export function describeChanges(changes) {
  if (!changes) return "";
  const words = [];
  for (const part of ["choices", "values", "adds"]) {
    for (const [name, word] of Object.entries(changes[part] ?? {})) {
      if (word === null || word === "") words.push(t("plan.leave_empty", {name}));
      else words.push(`${name}=${word}`);
    }
  }
  return words.join(" ");
}
