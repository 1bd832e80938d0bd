// The second screen: the options and the parameters of this run, each with its range, its reason and its advice.

import {html, useCallback, useEffect, useMemo, useRef, useState} from "../vendor/htm-preact.js";
import {findCard, useCards} from "./cards.js";
import {ChoicesPanel} from "./choices_panel.js";
import {Found} from "../plan/found.js";
import {Icon} from "../app/icons.js";
import {PlanError} from "../plan/plan_error.js";
import {usePlan} from "../plan/planner.js";
import {Row} from "./row.js";
import {canUndo, undo, useDraft} from "../app/store.js";
import {Button, Chip, ErrorNotice, Spinner} from "../app/ui.js";

const SECTIONS = ["result", "cost", "leave"];

export function ParametersScreen({route, t, lang}) {
  const draft = useDraft();
  const planned = usePlan(lang);
  const {cards, error} = useCards(lang);
  const {plan, pending} = planned;
  const [query, setQuery] = useState(route.query.q ?? "");
  const [onlyMine, setOnlyMine] = useState(false);
  const [opened, setOpened] = useState(() => new Set());
  const toggle = useCallback((path) => setOpened((held) => flip(held, path)), []);
  const rows = useMemo(() => (plan ? SECTIONS.flatMap((name) => plan.parameters[name] ?? []) : []), [plan]);
  const wanted = useWantedRow(route.query.find, Boolean(plan && cards), setOpened);
  const mine = rows.filter((row) => row.path in draft.values);
  const draw = (row) => html`<${Row} key=${row.path} row=${row} card=${findCard(cards, row.path, row.option)}
    typed=${draft.values[row.path]}
    error=${planned.error && planned.about === row.path ? planned.error.message : ""} open=${opened.has(row.path)}
    onToggle=${() => toggle(row.path)} />`;
  return html`
    <header class="screen-head">
      <h1>${t("parameters.title")}</h1>
      <span class="line">
        ${pending && plan ? html`<span class="busy" aria-hidden="true"><span class="spinner">
          </span>${planned.preparing || t("plan.computing")}</span>` : null}
        <${Button} icon="undo" disabled=${!canUndo()} onClick=${undo}>${t("shell.undo")}<//>
      </span>
      <p>${t("parameters.intro")}</p>
    </header>
    <${ErrorNotice} error=${error} />
    <${PlanError} t=${t} planned=${planned} />
    <${SearchBox} t=${t} query=${query} onQuery=${setQuery} onlyMine=${onlyMine} onOnlyMine=${setOnlyMine}
      count=${mine.length} />
    ${!plan || !cards ? html`<${Spinner} label=${planned.preparing || t("plan.first")} />` : null}
    ${plan && cards ? html`
      ${query.trim() || onlyMine
        ? html`<${Found} t=${t} query=${query} cards=${cards} rows=${onlyMine ? mine : rows} onlyMine=${onlyMine}
          draw=${draw} />`
        : html`<${ChoicesPanel} cards=${cards} plan=${plan} draft=${draft} focus=${route.query.find}
          error=${planned.error?.message}
            about=${planned.about} />
          <${Legend} t=${t} />
          ${SECTIONS.map((name) => html`<${Section} key=${name} t=${t} name=${name} rows=${plan.parameters[name] ?? []}
            draft=${draft}
            wanted=${wanted} draw=${draw} />`)}`}` : null}`;
}

function flip(held, path) {
  const next = new Set(held);
  if (!next.delete(path)) next.add(path);
  return next;
}

// A link such as #/parameters?find=optim.lr opens that row and brings it into view.
function useWantedRow(path, ready, setOpened) {
  const done = useRef("");
  useEffect(() => {
    if (!ready || !path || done.current === path) return;
    done.current = path;
    setOpened((held) => new Set(held).add(path));
    requestAnimationFrame(() => requestAnimationFrame(() => {
      const place = document.getElementById(`place-${path}`);
      place?.scrollIntoView({block: "center"});
      place?.querySelector("input, select, button")?.focus();
    }));
  }, [path, ready]);
  return path;
}

function SearchBox({t, query, onQuery, onlyMine, onOnlyMine, count}) {
  const field = useRef(null);
  useEffect(() => {
    const listen = (event) => {
      const typing = event.target.closest?.("input, textarea, select, [contenteditable], dialog");
      if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      field.current.focus();
      field.current.select();
    };
    document.addEventListener("keydown", listen);
    return () => document.removeEventListener("keydown", listen);
  }, []);
  const keys = (event) => event.key === "Escape" && onQuery("");
  return html`<div class="search" role="search">
    <div class="search-field">
      <${Icon} name="search" size=${18} />
      <input ref=${field} class="input" type="search" value=${query} aria-label=${t("parameters.search")}
        aria-keyshortcuts="/"
        placeholder=${t("parameters.search_hint")} spellcheck="false" autocomplete="off"
          onInput=${(event) => onQuery(event.target.value)}
        onKeyDown=${keys} />
      <kbd aria-hidden="true">/</kbd>
    </div>
    <label class="line nowrap small mine-only"><input type="checkbox" checked=${onlyMine}
      onChange=${(event) => onOnlyMine(event.target.checked)} />
      ${t("parameters.only_mine", {count})}</label>
  </div>`;
}

// What the marks of the bars mean, drawn as in the bars.
function Legend({t}) {
  return html`<ul class="legend line small bar-legend" aria-hidden="true">
    <li class="legend-entry"><svg width="26" height="10"><rect class="range-legal" x="0" width="26" y="3" height="4"
      rx="2" /></svg>${t("parameters.legend_legal")}</li>
    <li class="legend-entry"><svg width="26" height="10"><rect class="range-usual" x="0" width="26" y="1" height="8"
      rx="3" /></svg>${t("parameters.legend_usual")}</li>
    <li class="legend-entry"><svg width="14" height="14" viewBox="-7 -7 14 14"><path class="range-derived"
      d="M0 -5.5 5.5 0 0 5.5 -5.5 0z" /></svg>${t("parameters.legend_derived")}</li>
    <li class="legend-entry"><svg width="14" height="14" viewBox="-7 -7 14 14"><circle class="range-yours" r="5" />
      </svg>${t("parameters.legend_yours")}</li>
  </ul>`;
}

function Section({t, name, rows, draft, wanted, draw}) {
  const [open, setOpen] = useState(name === "result");
  const holds = rows.some((row) => row.path === wanted);
  useEffect(() => {
    if (holds) setOpen(true);
  }, [holds]);
  if (!rows.length) return null;
  const mine = rows.filter((row) => row.path in draft.values);
  const warned = rows.filter((row) => row.warning).length;
  return html`<section class="panel section" aria-labelledby=${`section-${name}`}>
    <button type="button" class="section-head" aria-expanded=${String(open)} aria-controls=${`rows-${name}`}
      onClick=${() => setOpen(!open)}>
      <span class="chevron" aria-hidden="true"></span>
      <h2 id=${`section-${name}`}>${t(`parameters.section_${name}`)}</h2>
      <${Chip}>${rows.length}<//>
      ${mine.length ? html`<${Chip} level="accent">${t("parameters.changed", {count: mine.length})}<//>` : null}
      ${warned ? html`<${Chip} level="warning">${t("parameters.warned", {count: warned})}<//>` : null}
      <span class="section-about soft small">${t(`parameters.section_${name}_about`)}</span>
    </button>
    ${open ? null : html`<p class="section-values small">${rows.map((row) => html`<span key=${row.path}
      class=${row.path in draft.values ? "mine" : ""}>
      ${row.title} <span class="mono">${draft.values[row.path] ?? (row.text || t("parameters.empty"))}</span>
        </span>`)}</p>`}
    <ul id=${`rows-${name}`} class="rows" hidden=${!open}>${open ? rows.map(draw) : null}</ul>
  </section>`;
}
