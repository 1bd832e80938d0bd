// A parameter: its names, its field, the range bar, where the value comes from, and one line of advice.

import {html} from "../vendor/htm-preact.js";
import {Card} from "./card.js";
import {Field} from "./field.js";
import {formatRate} from "../app/format.js";
import {getLanguage, t} from "../app/i18n.js";
import {RangeBar} from "../charts/rangebar.js";
import {setValue} from "../app/store.js";
import {Chip, IconButton, rich} from "../app/ui.js";

const ORIGINS = {yours: "accent", preset: "plain", derived: "plain", default: "plain"};

// `typed`: the text of the draft for this parameter; `error`: the sentence if the newest draft is refused because of
// it.
export function Row({row, card, typed, error, open, onToggle}) {
  const id = `row-${row.path}`;
  const level = error ? "error" : row.warning ? "warning" : "";
  const origin = typed === undefined ? (row.origin === "yours" ? "derived" : row.origin) : "yours";
  const chosen = card?.choice_meanings?.[typed ?? row.text] ?? "";
  const ids = [chosen && `${id}-choice`, `${id}-advice`, `${id}-origin`].filter(Boolean).join(" ");
  return html`<li class=${`row ${level} ${open ? "opened" : ""}`} id=${`place-${row.path}`}>
    <div class="row-main">
      <div class="row-names">
        <button type="button" class="row-toggle" aria-expanded=${String(open)} aria-controls=${`${id}-card`}
          onClick=${onToggle} title=${t("parameters.open_card")}><span class="chevron" aria-hidden="true"></span>
            </button>
        <div class="row-text">
          <label class="row-title" for=${id}>${row.title}</label>
          <code class="row-path">${row.path}</code>
          <${OtherNames} names=${card?.names ?? []} row=${row} />
        </div>
      </div>
      <div class="row-value">
        <${Field} row=${row} id=${id} typed=${typed} level=${level} describedBy=${ids} />
        <div class="row-origin" id=${`${id}-origin`}>
          <${Chip} level=${ORIGINS[origin] ?? "plain"}
            title=${row.reason || null}>${t(`parameters.origin_${origin}`)}<//>
          ${origin === "yours" ? html`<${IconButton} icon="reset" class="tiny" label=${labelBack(row)}
            onClick=${() => setValue(row.path, null)} />` : null}
        </div>
      </div>
      <div class="row-about">
        <${RangeBar} row=${row} card=${card} yours=${findNumber(row, typed, origin)} level=${level} />
        ${chosen ? html`<p class="row-choice" id=${`${id}-choice`}>
          <code>${typed ?? row.text}</code> ${rich(chosen)}</p>` : null}
        <p class=${`row-advice ${level}`}
          id=${`${id}-advice`}>${rich(error || row.warning || describe(row, origin))}</p>
      </div>
    </div>
    <div id=${`${id}-card`} class="row-card"
      hidden=${!open}>${open ? html`<${Card} row=${row} card=${card} />` : null}</div>
  </li>`;
}

function describe(row, origin) {
  if (row.reason && origin === "preset") return t("parameters.set_by", {reason: row.reason});
  if (row.reason && origin !== "yours") return t(row.text === "" ? "parameters.empty_means"
    : "parameters.derived_because", {reason: row.reason});
  return row.advice ?? "";
}

function labelBack(row) {
  const value = row.derived;
  if (value === null || value === undefined || value === "") return t("parameters.back");
  return t("parameters.back_to", {value: formatRate(value)});
}

// What is drawn as yours: what was typed, even before the plan has answered; the value of a preset too.
export function findNumber(row, typed, origin) {
  if (row.kind !== "number") return null;
  const value = typed !== undefined ? Number(typed) : origin === "preset" ? row.value : null;
  return typeof value === "number" && Number.isFinite(value) && typed?.trim() !== "" ? value : null;
}

const SHOWN = 2;
const HAN = /\p{Script=Han}/u;

// What other tools call it, the same name once with all its tools. Pages such as LLaMA Board have labels in several
// languages: those of another language are only found by a search.
function OtherNames({names, row}) {
  const own = [row.path.split(".").pop(), row.title.toLowerCase()];
  const byName = new Map();
  for (const [tool, name] of names) {
    if (!own.includes(name.toLowerCase()) && isReadable(name)) byName.set(name, [...(byName.get(name) ?? []), tool]);
  }
  if (!byName.size) return null;
  const shown = [...byName.entries()].slice(0, SHOWN);
  return html`<span class="row-names-other">${shown.map(([name, tools]) => html`<span key=${name}>
    <span class="mono">${name}</span> ${tools[0]}</span>`)}</span>`;
}

function isReadable(name) {
  if (HAN.test(name)) return getLanguage() === "zh";
  return getLanguage() !== "zh" || !name.includes(" ");
}
