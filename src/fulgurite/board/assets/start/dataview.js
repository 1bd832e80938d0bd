// What the server reads in the chosen data. Asked again only if something changes that the reading depends on.

import {useAnswer, useDebounced} from "../app/hooks.js";

const GROUPS = ["data", "model", "stage"];

export function useDataView(draft, lang) {
  const asked = useDebounced(JSON.stringify(pickParts(draft)), 250);
  const body = {draft: JSON.parse(asked)};
  const known = hasData(body.draft) && hasModel(body.draft);
  const answer = useAnswer(known ? "/api/data" : null, {lang, body});
  const changing = asked !== JSON.stringify(pickParts(draft));
  return {...answer, known, pending: known && (answer.pending || changing)};
}

function pickParts(draft) {
  const ofGroups = (name) => GROUPS.includes(name.split(".")[0]);
  const keep = (part) => Object.fromEntries(Object.entries(part).filter(([name]) => ofGroups(name)));
  return {choices: keep(draft.choices), values: keep(draft.values), adds: draft.adds};
}

export function hasData(draft) {
  return draft.choices.data !== "file" || Boolean(draft.values["data.path"]);
}

function hasModel(draft) {
  return draft.choices.model !== "hf" || Boolean(draft.values["model.path"]);
}
