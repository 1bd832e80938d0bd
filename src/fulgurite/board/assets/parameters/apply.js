// Buttons that apply a remedy to the draft, and the line that takes the last one back.

import {html} from "../vendor/htm-preact.js";
import {Icon} from "../app/icons.js";
import {t} from "../app/i18n.js";
import {applyChanges, change, getDraft, undo, useDraft} from "../app/store.js";
import {Button, announce} from "../app/ui.js";

// What a button did last, so that a line can take it back as long as nothing else was changed.
let applied = {words: "", draft: ""};

export function applyRemedy(changes) {
  applied = {words: describeChanges(changes), draft: JSON.stringify(applyChanges(getDraft(), changes))};
  change(changes);
  announce(t("plan.applied", {words: applied.words}));
}

export function ApplyButton({changes, text = "plan.apply", kind = "plain"}) {
  const words = describeChanges(changes);
  if (!words) return null;
  return html`<${Button} class="small apply" kind=${kind}
    onClick=${() => applyRemedy(changes)}>${t(text, {words})}<//>`;
}

export function AppliedLine() {
  const draft = useDraft();
  if (!applied.draft || applied.draft !== JSON.stringify(draft)) return null;
  return html`<p class="applied line"><${Icon} name="check" /><span
    class="grow">${t("plan.applied", {words: applied.words})}</span>
    <${Button} class="small" icon="undo" onClick=${undo}>${t("shell.undo")}<//></p>`;
}

// A change as one would type it: `method=lora optim.lr=1e-4`; what is taken out is named.
export function describeChanges(changes) {
  const words = [];
  for (const part of ["choices", "values", "adds"]) {
    for (const [name, word] of Object.entries(changes?.[part] ?? {})) {
      const plus = part === "adds" ? "+" : "";
      if (word === null || word === "") words.push(t("plan.leave_empty", {name}));
      else words.push(`${plus}${name}=${Array.isArray(word) ? `[${word.join(",")}]` : word}`);
    }
  }
  return words.join(" ");
}

// The remedy of an error, if the server can put it as a change of the draft.
export function ErrorRemedy({error}) {
  const changes = error?.body?.changes;
  return describeChanges(changes) ? html`<p><${ApplyButton} changes=${changes} /></p>` : null;
}
