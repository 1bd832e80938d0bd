// The question which model: a bundled one, a folder, an earlier run or an id of the hub.

import {html} from "../vendor/htm-preact.js";
import {listOptions, shorten} from "../parameters/cards.js";
import {useAnswer} from "../app/hooks.js";
import {PathField} from "./start_data.js";
import {Question} from "../app/question.js";
import {change} from "../app/store.js";
import {ChoiceCards} from "../app/ui.js";

export function ModelQuestion({t, lang, draft, cards, chosen}) {
  const bundled = listOptions(cards, "model").filter((option) => option.name !== "hf");
  const items = [
    ...bundled.map((option) => ({value: option.name, title: option.name, about: shorten(option.about)})),
    {value: "hf", title: t("start.own_model"), about: t("start.own_model_about")},
  ];
  const choose = (name) => change({choices: {model: name}, values: name === "hf" ? {} : {"model.path": null}});
  return html`<${Question} number="3" title=${t("start.model")}>
    <${ChoiceCards} name="model" label=${t("start.model")} items=${items} value=${chosen.model} onChoose=${choose} />
    ${chosen.model === "hf" ? html`
      <${PathField} t=${t} lang=${lang} path="model.path" value=${draft.values["model.path"] ?? ""}
        label=${t("start.model_path")} help=${t("start.model_path_help")} wanted=${["model", "run", "folder"]}
        title=${t("start.pick_model")} />
      <${EarlierRuns} t=${t} lang=${lang} value=${draft.values["model.path"] ?? ""} />` : null}
  <//>`;
}

function EarlierRuns({t, lang, value}) {
  const {data} = useAnswer("/api/runs", {lang});
  const runs = (data?.runs ?? []).filter((run) => !run.live);
  if (!runs.length) return null;
  const take = (event) => {
    if (event.target.value) change({values: {"model.path": event.target.value}});
  };
  return html`<div class="field">
    <label for="earlier-run">${t("start.earlier_run")}</label>
    <select id="earlier-run" class="input" onChange=${take}
      value=${runs.some((run) => run.folder === value) ? value : ""}>
      <option value="">${t("start.choose_run")}</option>
      ${runs.map((run) => html`<option key=${run.id} value=${run.folder}>${run.name}</option>`)}
    </select>
  </div>`;
}
