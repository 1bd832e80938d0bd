// Takes another option of a group. Values that the new option does not have leave the draft with it.

import {findGroup} from "../parameters/cards.js";
import {change, getDraft} from "../app/store.js";

export function choose(cards, group, option) {
  change({choices: {[group]: option}, values: listLeft(cards, group, option)});
}

function listLeft(cards, group, option) {
  const found = findGroup(cards, group)?.options.find((one) => one.name === option);
  const left = {};
  if (!found || (found.preset && !found.base)) return left;
  for (const path of Object.keys(getDraft().values)) {
    const all = cards.cards[path];
    if (!path.startsWith(`${group}.`) || !all) continue;
    if (!all.some(({options}) => options.includes(found.base || option) || options.includes(""))) left[path] = null;
  }
  return left;
}
