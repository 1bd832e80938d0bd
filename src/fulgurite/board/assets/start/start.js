// The first screen: what data, which model, what for; then one sentence about the run.

import {html, useState} from "../vendor/htm-preact.js";
import {listDefaults, useCards} from "../parameters/cards.js";
import {DataQuestion} from "./start_data.js";
import {GoalQuestion} from "./start_goal.js";
import {ModelQuestion} from "./start_model.js";
import {useDataView} from "./dataview.js";
import {useAnswer} from "../app/hooks.js";
import {formatBytes, formatNumber} from "../app/format.js";
import {OpenDialog} from "./open.js";
import {Outcome} from "../run/outcome.js";
import {usePlan} from "../plan/planner.js";
import {Question} from "../app/question.js";
import {clearDraft, isEmpty, useDraft} from "../app/store.js";
import {Button, ErrorNotice, Spinner} from "../app/ui.js";

export function StartScreen({t, lang}) {
  const draft = useDraft();
  const planned = usePlan(lang);
  const {cards, error} = useCards(lang);
  const view = useDataView(draft, lang);
  const [opening, setOpening] = useState(false);
  const chosen = {...listDefaults(cards), ...(planned.plan?.groups ?? {}), ...draft.choices};
  const parts = {t, lang, draft, cards, chosen, view, planned};
  return html`
    <header class="screen-head">
      <h1>${t("start.title_long")}</h1>
      <span class="line">
        ${isEmpty() ? null : html`<${Button} icon="reset" onClick=${clearDraft}>${t("start.clear")}<//>`}
        <${Button} icon="folder" onClick=${() => setOpening(true)}>${t("start.open")}<//>
      </span>
      <p>${t("start.intro")}</p>
    </header>
    <${ErrorNotice} error=${error} />
    <div class="start-grid">
      <div class="stack questions">
        <${DataQuestion} ...${parts} />
        <${MachineLine} t=${t} lang=${lang} />
        <${ModelQuestion} ...${parts} />
        <${GoalQuestion} ...${parts} />
      </div>
      <aside class="outcome-place" aria-label=${t("start.outcome")}><${Outcome} ...${parts} /></aside>
    </div>
    ${opening ? html`<${OpenDialog} lang=${lang} onClose=${() => setOpening(false)} />` : null}`;
}

function MachineLine({t, lang}) {
  const {data, error, pending} = useAnswer("/api/machine", {lang});
  return html`<${Question} number="2" title=${t("start.machine")}>
    ${pending && !data ? html`<${Spinner} label=${t("start.machine_looking")} />` : null}
    <${ErrorNotice} error=${error} />
    ${data ? html`<ul class="facts">${listMachine(data, t).map(([name, value]) => html`<li key=${name}>
      <span class="fact-name">${name}</span><span class="fact-value">${value}</span></li>`)}</ul>` : null}
  <//>`;
}

function listMachine(machine, t) {
  const facts = [
    [t("start.device"), [String(machine.device ?? "").toUpperCase(), machine.name].filter(Boolean).join(" · ")],
    [t("start.cores"), formatNumber(machine.cores)],
    [t("start.memory"), t("start.free_of", {free: formatBytes(machine.memory_free),
      total: formatBytes(machine.memory_total)})],
  ];
  if (Number.isFinite(machine.disk_free)) facts.push([t("start.disk"),
    t("start.free", {free: formatBytes(machine.disk_free)})]);
  return facts;
}
