// Every run under the folders of the board: the list, the chosen ones compared, and the searches.

import {html, useMemo, useState} from "../vendor/htm-preact.js";
import {useId} from "../app/hooks.js";
import {makeHash} from "../app/router.js";
import {Compare} from "./runs_compare.js";
import {useRuns} from "./runs_feed.js";
import {Launches, RunList} from "./runs_list.js";
import {Sweep} from "./runs_sweep.js";
import {read, write} from "../app/storage.js";
import {ErrorNotice, Notice, Spinner} from "../app/ui.js";

const COMPARED = 8;

export function RunsScreen({t, lang}) {
  const {list, error, round} = useRuns(lang);
  const [chosen, setChosen] = useState(() => read("compared", "sessionStorage") ?? []);
  const [words, setWords] = useState("");
  const runs = useMemo(() => filterRuns(list?.runs ?? [], words), [list, words]);
  if (!list) return error ? html`<${ErrorNotice} error=${error} />` : html`<${Spinner} />`;
  const compared = list.runs.filter(({id}) => chosen.includes(id));
  const choose = (id, isOn) => {
    setChosen((before) => {
      const known = before.filter((each) => each !== id && list.runs.some((run) => run.id === each));
      const next = isOn ? [...known, id].slice(-COMPARED) : known;
      write("compared", next, "sessionStorage");
      return next;
    });
  };
  return html`<div class="stack-wide">
    <header class="screen-head"><h1>${t("runs.title")}</h1></header>
    <${ErrorNotice} error=${error} />
    <${Launches} t=${t} launches=${list.launches} />
    ${list.runs.length === 0
      ? html`<${Notice} title=${t("runs.none")}><p><a href=${makeHash("start")}>${t("runs.none_start")}</a></p><//>`
      : html`<section class="panel stack" aria-label=${t("runs.title")}>
          <${Filter} t=${t} words=${words} setWords=${setWords} shown=${runs.length} total=${list.runs.length} />
          <${RunList} t=${t} lang=${lang} runs=${runs} chosen=${chosen} choose=${choose} />
        </section>`}
    <${Compare} t=${t} runs=${compared} all=${list.runs} differences=${list.differences} round=${round} />
    ${(list.sweeps ?? []).map((sweep) => html`<${Sweep} key=${sweep.id} t=${t} lang=${lang} sweep=${sweep}
      launch=${findLaunch(list.launches, sweep)} />`)}
  </div>`;
}

// The newest command of a search, by which it can be stopped, or which has the reason of its end.
function findLaunch(launches, {id}) {
  return (launches ?? []).find(({sweep}) => sweep === id);
}

function Filter({t, words, setWords, shown, total}) {
  const id = useId("filter");
  return html`<div class="line">
    <div class="field grow runs-filter">
      <label class="hidden" for=${id}>${t("runs.filter")}</label>
      <input id=${id} class="input" type="search" placeholder=${t("runs.filter")} value=${words}
        onInput=${(event) => setWords(event.currentTarget.value)} />
    </div>
    <p class="soft small" role="status">${t("runs.count", {shown, total})}</p>
  </div>`;
}

// Runs in whose name, folder, state or choices every word occurs; the newest first.
function filterRuns(runs, words) {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  const found = runs.filter((run) => {
    const text = [run.name, run.folder, run.state, ...Object.values(run.choices ?? {})].join(" ").toLowerCase();
    return wanted.every((word) => text.includes(word));
  });
  return found.sort((a, b) => (b.started ?? 0) - (a.started ?? 0));
}
