// The groups of options: what is in use, and on opening every option with its explanation; what does not fit is dimmed.

import {html, useEffect, useState} from "../vendor/htm-preact.js";
import {describeOption} from "./cards.js";
import {choose} from "../start/choose.js";
import {t} from "../app/i18n.js";
import {setAdd} from "../app/store.js";
import {Button, Chip, ChoiceCards} from "../app/ui.js";

const MAIN = ["stage", "method", "optim", "scheduler", "precision"];
const REST = ["data", "model", "privacy", "strategy", "launcher", "trainer", "callback", "logger"];
const ADDS = ["experiment", "sweep", "find"];
const MANY = ["callback", "logger"];

export function ChoicesPanel({cards, plan, draft, focus, error, about}) {
  const groups = sortGroups(cards.groups);
  const [more, setMore] = useState(false);
  useEffect(() => {
    if (groups.rest.some((group) => group.name === focus)) setMore(true);
  }, [focus]);
  const draw = (group) => html`<${ChoiceGroup} key=${group.name} cards=${cards} group=${group} plan=${plan}
    draft=${draft}
    startsOpen=${focus === group.name} error=${about === group.name ? error : ""} />`;
  return html`<section class="panel choices" aria-labelledby="choices-title">
    <h2 id="choices-title">${t("parameters.choices")}</h2>
    <div class="choice-groups">${groups.main.map(draw)}</div>
    <div class="choice-more">
      <button type="button" class="choice-group-head" aria-expanded=${String(more)} aria-controls="choice-rest"
        onClick=${() => setMore(!more)}>
        <span class="chevron" aria-hidden="true"></span>
        <span class="choice-group-name">${t("parameters.more_choices")}</span>
        ${more ? null : html`<span class="section-values small">${groups.rest.map((group) => html`<${UsedOption}
          key=${group.name} group=${group}
          plan=${plan} draft=${draft} />`)}</span>`}
      </button>
      <div id="choice-rest" class="choice-groups" hidden=${!more}>${more ? groups.rest.map(draw) : null}</div>
    </div>
  </section>`;
}

// A group with one option is no choice. What a plug-in adds comes before the groups that begin with +.
function sortGroups(groups) {
  const known = new Map(groups.filter(({name, options}) => options.length > (ADDS.includes(name) ? 0
    : 1)).map((group) => [group.name, group]));
  const pick = (names) => names.filter((name) => known.has(name)).map((name) => known.get(name));
  const others = [...known.keys()].filter((name) => ![...MAIN, ...REST, ...ADDS].includes(name));
  return {main: pick(MAIN), rest: pick([...REST, ...others, ...ADDS])};
}

function findUsed(group, plan, draft) {
  const add = ADDS.includes(group.name);
  const mine = (add ? draft.adds : draft.choices)[group.name];
  return {add, mine, used: toList(mine ?? (add ? "" : plan?.groups[group.name]) ?? "")};
}

function UsedOption({group, plan, draft}) {
  const {mine, used} = findUsed(group, plan, draft);
  return html`<span class=${mine ? "mine" : ""}>${group.title} <span
    class="mono">${used.join(", ") || t("parameters.none")}</span></span>`;
}

function ChoiceGroup({cards, group, plan, draft, startsOpen, error}) {
  const [open, setOpen] = useState(startsOpen);
  const {add, mine, used: names} = findUsed(group, plan, draft);
  const option = group.options.find((one) => one.name === names[0]);
  const id = `group-${group.name}`;
  return html`<div class=${`choice-group ${open ? "opened" : ""}`} id=${`place-${group.name}`}>
    <button type="button" class="choice-group-head" aria-expanded=${String(open)} aria-controls=${id}
      onClick=${() => setOpen(!open)}>
      <span class="chevron" aria-hidden="true"></span>
      <span class="choice-group-name">${group.title} <code class="soft">${add ? `+${group.name}` : group.name}</code>
        </span>
      <span class="choice-group-used mono">${names.join(", ") || t("parameters.none")}</span>
      ${mine ? html`<${Chip} level="accent">${t("parameters.origin_yours")}<//>` : null}
      <span class="choice-group-about soft small">${error || option?.about || group.about}</span>
    </button>
    <div id=${id} hidden=${!open} class="choice-group-body">${open
      ? html`<${Options} cards=${cards} group=${group} used=${names} mine=${mine}
      plan=${plan} add=${add} />` : null}</div>
  </div>`;
}

function toList(used) {
  if (Array.isArray(used)) return used;
  return String(used).replace(/^\[|\]$/g, "").split(",").map((name) => name.trim()).filter(Boolean);
}

function Options({cards, group, used, mine, plan, add}) {
  const unfit = plan?.unfit?.[group.name] ?? {};
  const items = group.options.map((option) => ({
    value: option.name, title: option.name, about: describeOption(option), reason: unfit[option.name] ?? "",
  }));
  if (add) items.unshift({value: "", title: t("parameters.none"), about: t(`parameters.none_${group.name}`)});
  const pick = add ? (name) => setAdd(group.name, name) : (name) => choose(cards, group.name, name);
  return html`<div class="stack">
    ${group.about ? html`<p class="soft small">${group.about}</p>` : null}
    ${MANY.includes(group.name)
      ? html`<${ManyOptions} cards=${cards} group=${group} items=${items} used=${used} />`
      : html`<${ChoiceCards} name=${`group-${group.name}`} label=${group.title} items=${items} value=${used[0] ?? ""}
        onChoose=${pick} />`}
    ${mine && !add ? html`<p><${Button} class="small" icon="reset"
      onClick=${() => choose(cards, group.name, null)}>${t("parameters.back_to_default")}<//></p>` : null}
  </div>`;
}

// Several options at once, such as callbacks; `none` stands alone.
function ManyOptions({cards, group, items, used}) {
  const toggle = (name, on) => {
    const next = name === "none" ? ["none"] : [...used.filter((one) => one !== "none" && one !== name),
      ...(on ? [name] : [])];
    choose(cards, group.name, next.length > 1 ? next : next[0] ?? "none");
  };
  return html`<div class="cards" role="group"
    aria-label=${group.title}>${items.map((item) => html`<label key=${item.value}
      class=${`card choice ${used.includes(item.value) ? "chosen" : ""}`}>
    <input type="checkbox" checked=${used.includes(item.value)}
      onChange=${(event) => toggle(item.value, event.target.checked)} />
    <span class="choice-text"><span class="choice-title">${item.title}</span><span
      class="choice-about">${item.about}</span></span>
  </label>`)}</div>`;
}
