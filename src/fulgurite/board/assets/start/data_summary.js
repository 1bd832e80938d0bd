// What was read: format, counts, lengths, records that were left out, and examples with the learned part coloured.

import {html, useState} from "../vendor/htm-preact.js";
import {formatNumber} from "../app/format.js";
import {Histogram} from "../charts/histogram.js";
import {Button, Notice} from "../app/ui.js";

export function DataSummary({t, data, pending}) {
  return html`<div class=${`stack data-summary ${pending ? "stale" : ""}`}>
    <ul class="facts">
      <${Fact} name=${t("start.format")} value=${data.format} />
      <${Fact} name=${t("start.examples")} value=${formatNumber(data.examples)} />
      ${data.records !== data.examples ? html`<${Fact} name=${t("start.records")} value=${formatNumber(data.records)}
        />` : null}
      <${Fact} name=${t("start.longest")} value=${t("start.tokens", {count: formatNumber(data.lengths?.max)})} />
    </ul>
    <${Dropped} t=${t} dropped=${data.dropped ?? []} />
    <${Unread} t=${t} fields=${data.unread_fields ?? {}} />
    ${data.lengths?.bins?.length ? html`<${Histogram} lengths=${data.lengths} height=${90} />` : null}
    <${Examples} t=${t} shown=${data.shown ?? []} />
  </div>`;
}

function Fact({name, value}) {
  return html`<li><span class="fact-name">${name}</span><span class="fact-value">${value}</span></li>`;
}

function Dropped({t, dropped}) {
  if (!dropped.length) return null;
  const count = dropped.reduce((sum, one) => sum + one.count, 0);
  return html`<${Notice} level="warning" title=${t("start.dropped", {count: formatNumber(count)})}>
    <ul class="stack small">${dropped.map((one) => html`<li key=${one.reason}>
      ${t("start.dropped_reason", {count: formatNumber(one.count), reason: one.reason})}
      ${one.places?.length ? html` <code class="soft">${one.places.map(shortenPlace).join(", ")}</code>`
        : null}</li>`)}</ul>
  <//>`;
}

function Unread({t, fields}) {
  const names = Object.keys(fields);
  if (!names.length) return null;
  return html`<p class="soft small">${t("start.unread", {fields: names.join(", ")})}</p>`;
}

// `folder/file.jsonl:3` as `file.jsonl:3`.
function shortenPlace(place) {
  return place.split("/").pop();
}

const FIRST = 1;

function Examples({t, shown}) {
  const [all, setAll] = useState(false);
  if (!shown.length) return null;
  const visible = all ? shown : shown.slice(0, FIRST);
  return html`<section class="stack" aria-label=${t("start.first_examples")}>
    <div class="line"><h3>${t("start.first_examples")}</h3><${Legend} t=${t} /></div>
    <ol class="examples">${visible.map((example) => html`<${Example} key=${example.place} t=${t} example=${example}
      />`)}</ol>
    ${shown.length > FIRST ? html`<p><${Button} class="small" onClick=${() => setAll(!all)}
      aria-expanded=${String(all)}>
      ${all ? t("start.show_less") : t("start.show_more", {count: shown.length - FIRST})}<//></p>` : null}
  </section>`;
}

function Legend({t}) {
  return html`<span class="line small legend"><span class="learned">${t("start.learned")}</span>
    <span class="soft">${t("start.context")}</span></span>`;
}

function Example({t, example}) {
  const facts = {tokens: formatNumber(example.tokens), learned: formatNumber(example.learned)};
  return html`<li class="example">
    <p class="small soft"><code title=${example.place}>${shortenPlace(example.place)}</code>${" "}
      ${example.what} · ${t("start.example_tokens", facts)}</p>
    <div class="example-text" tabindex="0" role="group"
      aria-label=${example.place}>${example.text.map((part, index) => (part.learned
      ? html`<mark key=${index} class="learned">${part.text}</mark>`
        : html`<span key=${index}>${part.text}</span>`))}</div>
  </li>`;
}
