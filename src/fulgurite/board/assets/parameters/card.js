// The whole card of a parameter: what it does, when to change it, what it costs, other names, and how sure the
// advice is.

import {html} from "../vendor/htm-preact.js";
import {formatRate} from "../app/format.js";
import {t} from "../app/i18n.js";
import {describeUsual} from "../charts/rangebar.js";
import {rich} from "../app/ui.js";

export function Card({row, card}) {
  const facts = [
    [t("parameters.value_now"), describeValue(row)],
    [t("parameters.usual_here"), describeUsual(row.usual)],
    ...(card?.rows ?? []),
    [t("parameters.confidence"), card?.sure_words || row.sure],
    [t("parameters.source"), card?.source],
    [t("parameters.earlier"), (card?.earlier ?? []).join(", ")],
  ].filter(([, text]) => text);
  return html`<div class="param-card">
    <div class="stack">
      <p>${rich(card?.meaning ?? "")}</p>
      ${row.advice || card?.advice ? html`<p><strong>${t("parameters.advice")}</strong> ${rich(row.advice
        || card.advice)}</p>` : null}
    </div>
    <dl class="card-rows">${facts.map(([name, text]) => html`<div key=${name}><dt>${name}</dt><dd>${rich(text)}</dd>
      </div>`)}</dl>
    ${card?.links?.length ? html`<p class="line small">${card.links.map(([name, address]) => html`<a key=${address}
      href=${address} target="_blank"
      rel="noopener noreferrer">${name}</a>`)}</p>` : null}
    ${card?.names?.length ? html`<div class="names"><h4 class="label">${t("parameters.other_names")}</h4>
      <ul class="line small">${card.names.map(([tool, name]) => html`<li key=${`${tool} ${name}`}>
        <code>${name}</code> <span class="soft">${tool}</span></li>`)}</ul></div>` : null}
  </div>`;
}

function describeValue(row) {
  const value = row.text === "" || row.text === undefined ? t("parameters.empty") : row.text;
  if (row.origin !== "yours" || row.derived === null || row.derived === undefined) {
    return row.reason ? t("parameters.value_why", {value, reason: row.reason}) : value;
  }
  return t("parameters.value_instead", {value, derived: formatRate(row.derived)});
}
