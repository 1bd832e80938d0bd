// Opens a configuration: of a run, of a YAML file, or of a pasted command line or YAML. What was read replaces the
// draft.

import {html, useState} from "../vendor/htm-preact.js";
import {post} from "../app/api.js";
import {FilePicker} from "./filepicker.js";
import {useAnswer} from "../app/hooks.js";
import {t} from "../app/i18n.js";
import {go} from "../app/router.js";
import {replaceDraft, undo} from "../app/store.js";
import {Button, Dialog, ErrorNotice, Notice, Spinner, rich} from "../app/ui.js";

const WAYS = ["run", "file", "text"];

export function OpenDialog({lang, onClose}) {
  const [way, setWay] = useState("run");
  const [state, setState] = useState({pending: false, error: null, notes: null});
  const open = async (body) => {
    setState({pending: true, error: null, notes: null});
    try {
      const {draft, notes} = await post("/api/open", body, {lang});
      replaceDraft(draft);
      setState({pending: false, error: null, notes: notes ?? []});
    } catch (error) {
      setState({pending: false, error, notes: null});
    }
  };
  if (state.notes) return html`<${Opened} notes=${state.notes} onClose=${onClose} />`;
  const Way = {run: FromRun, file: FromFile, text: FromText}[way];
  return html`<${Dialog} title=${t("start.open")} onClose=${onClose}>
    <p class="soft small">${t("start.open_about")}</p>
    <div class="tabs" role="group" aria-label=${t("start.open_ways")}>${WAYS.map((name) => html`<button key=${name}
      type="button" class="tab"
      aria-pressed=${String(name === way)} onClick=${() => setWay(name)}>${t(`start.open_${name}`)}</button>`)}</div>
    <${ErrorNotice} error=${state.error} title=${t("start.open_refused")} />
    ${state.pending ? html`<${Spinner} />` : null}
    <${Way} lang=${lang} onOpen=${open} />
  <//>`;
}

function Opened({notes, onClose}) {
  const takeBack = () => {
    undo();
    onClose();
  };
  const show = () => {
    onClose();
    go("parameters");
  };
  return html`<${Dialog} title=${t("start.opened")} onClose=${onClose}>
    ${notes.length ? html`<${Notice} title=${t("start.open_notes")}><ul
      class="stack">${notes.map((note) => html`<li key=${note}>${rich(note)}</li>`)}</ul><//>`
      : html`<p>${t("start.opened_whole")}</p>`}
    <p class="line"><${Button} kind="primary" onClick=${show}>${t("start.to_parameters_long")}<//>
      <${Button} icon="undo" onClick=${takeBack}>${t("shell.undo")}<//></p>
  <//>`;
}

function FromRun({lang, onOpen}) {
  const {data, error} = useAnswer("/api/runs", {lang});
  if (error) return html`<${ErrorNotice} error=${error} />`;
  if (!data) return html`<${Spinner} />`;
  if (!data.runs.length) return html`<p class="soft">${t("start.no_runs")}</p>`;
  return html`<ul class="entries">${data.runs.map((run) => html`<li key=${run.id} class="entry">
    <button type="button" class="entry-name" onClick=${() => onOpen({run: run.id})}>
      <span class="entry-text">${run.name}</span>
      <span class="soft small">${[run.choices?.stage, run.choices?.method].filter(Boolean).join(" · ")}</span>
    </button></li>`)}</ul>`;
}

function FromFile({lang, onOpen}) {
  const [path, setPath] = useState("");
  const [picking, setPicking] = useState(false);
  const send = (event) => {
    event.preventDefault();
    if (path.trim()) onOpen({path: path.trim()});
  };
  return html`<form class="stack" onSubmit=${send}>
    <div class="field"><label for="open-path">${t("start.yaml_path")}</label>
      <div class="line nowrap"><input id="open-path" class="input mono" value=${path} spellcheck="false"
        autocomplete="off"
        onInput=${(event) => setPath(event.target.value)} />
        <${Button} icon="folder" onClick=${() => setPicking(true)}>${t("shell.browse")}<//></div></div>
    <p><button type="submit" class="button primary" disabled=${!path.trim()}>${t("start.open_now")}</button></p>
    ${picking ? html`<${FilePicker} title=${t("start.pick_yaml")} wanted=${["file"]} lang=${lang} onPick=${setPath}
      onClose=${() => setPicking(false)} />` : null}
  </form>`;
}

function FromText({onOpen}) {
  const [text, setText] = useState("");
  const send = (event) => {
    event.preventDefault();
    if (text.trim()) onOpen(isYaml(text) ? {yaml: text} : {words: text});
  };
  return html`<form class="stack" onSubmit=${send}>
    <div class="field"><label for="open-text">${t("start.paste")}</label>
      <textarea id="open-text" class="input" spellcheck="false" value=${text}
        onInput=${(event) => setText(event.target.value)}></textarea></div>
    <p><button type="submit" class="button primary" disabled=${!text.trim()}>${t("start.open_now")}</button></p>
  </form>`;
}

// YAML has a line `name:` or `name: value`; a command line has words `name=value`, perhaps over several lines with \.
export function isYaml(text) {
  const first = text.split("\n").map((line) => line.trim()).find((line) => line && !line.startsWith("#")) ?? "";
  return /^(- |---|[\w.]+:(\s|$))/.test(first);
}
