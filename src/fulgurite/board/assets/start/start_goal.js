// The question what the training is for: the stages, of which those that cannot read the data are dimmed.

import {html} from "../vendor/htm-preact.js";
import {listOptions, shorten} from "../parameters/cards.js";
import {choose} from "./choose.js";
import {Question} from "../app/question.js";
import {ChoiceCards, Notice} from "../app/ui.js";

export function GoalQuestion({t, cards, chosen, view}) {
  const readable = view.data?.stages ?? null;
  const items = listOptions(cards, "stage").map((option) => ({
    value: option.name, title: t(`start.stage_${option.name}`), code: option.name, about: shorten(option.about),
    reason: readable && !readable.includes(option.name) ? t("start.stage_unreadable") : "",
  }));
  // What can be chosen comes first; the order among the rest stays.
  items.sort((one, two) => Boolean(one.reason) - Boolean(two.reason));
  const misfit = readable && !readable.includes(chosen.stage);
  return html`<${Question} number="4" title=${t("start.goal")}>
    ${misfit && readable.length ? html`<${Notice} level="warning"><p>${t("start.stage_misfit")}</p><//>` : null}
    <${ChoiceCards} name="stage" label=${t("start.goal")} items=${items} value=${chosen.stage}
      onChoose=${(name) => choose(cards, "stage", name)} />
  <//>`;
}
