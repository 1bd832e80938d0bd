// The fields that people turn while they watch the plan: what they touched, and the few that decide most.

import {html} from "../vendor/htm-preact.js";
import {Field} from "./field.js";
import {makeHash} from "../app/router.js";
import {useDraft} from "../app/store.js";

const USUAL = ["optim.lr", "trainer.epochs", "trainer.max_steps", "trainer.global_batch_size",
  "trainer.micro_batch_size",
  "data.max_length", "method.rank"];
const MOST = 12;

export function QuickFields({t, plan, planned}) {
  const draft = useDraft();
  const rows = Object.values(plan.parameters).flat();
  const wanted = [...new Set([...USUAL, ...Object.keys(draft.values)])];
  const shown = wanted.map((path) => rows.find((row) => row.path === path)).filter(Boolean).slice(0, MOST);
  if (!shown.length) return null;
  return html`<section class="panel" aria-labelledby="plan-quick">
    <div class="line spread"><h2 id="plan-quick">${t("plan.quick")}</h2><a class="small"
      href=${makeHash("parameters")}>${t("plan.all_parameters")}</a></div>
    <div class="quick">${shown.map((row) => html`<${QuickField} key=${row.path} row=${row}
      typed=${draft.values[row.path]}
      error=${planned.error && planned.about === row.path ? planned.error.message : ""} t=${t} />`)}</div>
  </section>`;
}

function QuickField({row, typed, error, t}) {
  const id = `quick-${row.path}`;
  const level = error ? "error" : row.warning ? "warning" : "";
  return html`<div class=${`field quick-field ${level}`}>
    <label for=${id}>${row.title} <code class="soft">${row.path}</code></label>
    <${Field} row=${row} id=${id} typed=${typed} level=${level} describedBy=${`${id}-help`} />
    <p class="small soft" id=${`${id}-help`}>${error || row.warning
      || t(`parameters.origin_${typed === undefined ? row.origin : "yours"}`)}</p>
  </div>`;
}
