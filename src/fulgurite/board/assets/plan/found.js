// What the search found: rows of this run, options, and parameters of options that are not in use.

import {html} from "../vendor/htm-preact.js";
import {findCard} from "../parameters/cards.js";
import {choose} from "../start/choose.js";
import {searchElsewhere, searchOptions, searchRows} from "../parameters/search.js";
import {setAdd} from "../app/store.js";
import {Button} from "../app/ui.js";

const MOST = 12;

export function Found({t, query, cards, rows, onlyMine, draw}) {
  const asked = query.trim() !== "";
  const found = asked ? searchRows(query, rows, (row) => findCard(cards, row.path, row.option)) : rows;
  const options = asked && !onlyMine ? searchOptions(query, cards).slice(0, MOST) : [];
  const elsewhere = asked && !onlyMine ? searchElsewhere(query, cards, rows).slice(0, MOST) : [];
  const nothing = !found.length && !options.length && !elsewhere.length;
  return html`<div class="stack" aria-live="polite">
    <p class="soft small" role="status">${nothing ? t(asked ? "parameters.nothing" : "parameters.nothing_mine")
      : t("parameters.found", {count: found.length})}</p>
    ${found.length ? html`<section class="panel section"><ul class="rows">${found.map(draw)}</ul></section>` : null}
    ${options.length ? html`<section class="panel stack"><h2>${t("parameters.found_options")}</h2>
      <ul class="stack">${options.map(({group, option}) => html`<${FoundOption} key=${`${group.name} ${option.name}`}
        t=${t} cards=${cards} group=${group} option=${option} />`)}</ul>
    </section>` : null}
    ${elsewhere.length ? html`<section class="panel stack"><h2>${t("parameters.elsewhere")}</h2>
      <ul class="stack">${elsewhere.map((one) => html`<${Elsewhere} key=${one.path} t=${t} entry=${one} />`)}</ul>
        </section>` : null}
  </div>`;
}

const ADDS = ["experiment", "sweep", "find"];

function FoundOption({t, cards, group, option}) {
  const add = ADDS.includes(group.name);
  const pick = () => (add ? setAdd(group.name, option.name) : choose(cards, group.name, option.name));
  return html`<li class="found-option">
    <div class="grow"><code>${`${add ? "+" : ""}${group.name}=${option.name}`}</code> <span
      class="small soft">${option.about}</span></div>
    <${Button} class="small" onClick=${pick}>${t("parameters.use")}<//>
  </li>`;
}

function Elsewhere({t, entry}) {
  const card = entry.cards[0];
  const group = entry.path.split(".")[0];
  const options = entry.cards.flatMap((one) => one.options).filter(Boolean).map((name) => `${group}=${name}`);
  return html`<li class="found-option dimmed">
    <div class="grow"><strong>${card.title}</strong> <code class="soft">${entry.path}</code>
      <p class="small soft">${options.length ? t("parameters.applies_to", {options: options.join(", ")})
        : card.meaning}</p></div>
  </li>`;
}
