// What can be done with a run: stop and save, resume, export, take its configuration as the draft.

import {html, useState} from "../vendor/htm-preact.js";
import {post} from "../app/api.js";
import {followLaunch} from "../plan/commandbar.js";
import {useId} from "../app/hooks.js";
import {go} from "../app/router.js";
import {replaceDraft} from "../app/store.js";
import {Button, Dialog, ErrorNotice, announce} from "../app/ui.js";

// Milliseconds after which a run that has not stopped can be asked again, as on the server.
const STOP_AGAIN = 10_000;

export function Actions({t, lang, run, toChat, isChatting}) {
  const [busy, setBusy] = useState("");
  const [error, setError] = useState(null);
  const [exporting, setExporting] = useState(false);
  // Without a checkpoint there is no trained model yet to talk to.
  const hasModel = run.checkpoint !== null;
  const act = async (name, action) => {
    setBusy(name);
    setError(null);
    try {
      await action();
    } catch (problem) {
      setError(problem);
      setBusy("");
    }
  };
  const send = (name, body) => post(`/api/runs/${encodeURIComponent(run.id)}/${name}`, body ?? {}, {lang});
  // The button is off while the run saves its checkpoint; asked once more, the run leaves without saving.
  const stop = () => act("stop", async () => {
    await send("stop");
    announce(t("run.action.stopping"));
    setTimeout(() => setBusy("stop again"), STOP_AGAIN);
  });
  const stopLabel = {stop: "stopping", "stop again": "stop_now"}[busy] ?? "stop";
  const resume = (anyway) => act("resume", async () => {
    const {launch} = await send("resume", {anyway});
    setBusy("");
    followLaunch({...launch, run: null});
  });
  const open = () => act("open", async () => {
    await openAsDraft(run.id, lang);
  });
  const start = (format) => act("export", async () => {
    const {launch} = await send("export", {format});
    go("launch", launch.id);
  });
  return html`<div class="run-actions">
    <div class="line">
      ${run.live
        ? html`<${Button} icon="stop" disabled=${busy === "stop"} onClick=${stop}>
            ${t(`run.action.${stopLabel}`)}<//>`
        : run.can_resume && html`<${Button} kind="primary" disabled=${busy === "resume"} onClick=${() => resume(false)}>
            ${t("run.action.resume")}<//>`}
      <${Button} onClick=${toChat} disabled=${!hasModel} aria-expanded=${isChatting}>${t("run.action.chat")}<//>
      <${Button} onClick=${() => setExporting(true)} disabled=${!hasModel}>${t("run.action.export")}<//>
      <${Button} kind="quiet" disabled=${busy === "open"} onClick=${open}>${t("run.action.open")}<//>
    </div>
    <${ErrorNotice} error=${error}>
      ${error?.body?.anyway && html`<${Button} class="small" onClick=${() => resume(true)}>
        ${t("shell.start_anyway")}<//>`}
    <//>
    ${exporting && html`<${ExportDialog} t=${t} onClose=${() => setExporting(false)} onStart=${start} />`}
  </div>`;
}

// The configuration of a run becomes the draft, which the screen of the parameters shows.
export async function openAsDraft(id, lang) {
  const {draft} = await post("/api/open", {run: id}, {lang});
  replaceDraft(draft);
  go("parameters");
}

const FORMATS = ["merged", "adapter"];

export function ExportDialog({t, onClose, onStart}) {
  const [format, setFormat] = useState(FORMATS[0]);
  const group = useId("format");
  const begin = () => {
    onClose();
    onStart(format);
  };
  return html`<${Dialog} title=${t("run.export.title")} onClose=${onClose}>
    <fieldset class="stack plain-fieldset">
      <legend class="hidden">${t("run.export.title")}</legend>
      ${FORMATS.map((each) => html`<label key=${each} class="line export-format">
        <input type="radio" name=${group} value=${each} checked=${format === each} onChange=${() => setFormat(each)} />
        <span class="grow"><b>${t(`run.export.${each}`)}</b>
          <span class="soft export-about">${t(`run.export.${each}_about`)}</span></span>
      </label>`)}
    </fieldset>
    <div class="line"><${Button} kind="primary" onClick=${begin}>${t("run.export.start")}<//></div>
  <//>`;
}
