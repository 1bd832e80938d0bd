// A dialog that lists the folders given on the command line, so that nobody has to type a path.

import {html, useState} from "../vendor/htm-preact.js";
import {useAnswer} from "../app/hooks.js";
import {Icon} from "../app/icons.js";
import {Button, Dialog, ErrorNotice, Spinner} from "../app/ui.js";
import {formatBytes} from "../app/format.js";
import {t} from "../app/i18n.js";

const ICONS = {folder: "folder", run: "run", model: "model", file: "file"};

// `wanted`: kinds of entries that can be taken, of file, folder, run, model. `onPick` gets the path of the entry.
export function FilePicker({title, wanted, lang, onPick, onClose}) {
  const [path, setPath] = useState("");
  const {data, error, pending} = useAnswer(`/api/files?path=${encodeURIComponent(path)}`, {lang});
  const take = (picked) => {
    onPick(picked);
    onClose();
  };
  const here = data ? path || data.roots[data.root] : path;
  return html`<${Dialog} title=${title} onClose=${onClose}>
    ${data?.roots.length > 1 ? html`<div class="line" role="group"
      aria-label=${t("start.roots")}>${data.roots.map((root, number) => html`
      <${Button} key=${root} class="small" icon="folder" aria-pressed=${String(number === data.root)}
        onClick=${() => setPath(root)}>${root}<//>`)}
    </div>` : null}
    <div class="line">
      <${Button} class="small" icon="up" disabled=${!data || data.parent === null}
        onClick=${() => setPath(data.parent)}>
        ${t("start.parent_folder")}<//>
      <code class="grow">${here}</code>
      ${wanted.includes("folder") ? html`<${Button} class="small" kind="primary" disabled=${!data}
        onClick=${() => take(here)}>
        ${t("start.take_folder")}<//>` : null}
    </div>
    <${ErrorNotice} error=${error} />
    ${!data && pending ? html`<${Spinner} />` : null}
    ${data ? html`<${Entries} data=${data} wanted=${wanted} onOpen=${setPath} onTake=${take} />` : null}
  <//>`;
}

function Entries({data, wanted, onOpen, onTake}) {
  if (!data.entries.length) return html`<p class="soft">${t("start.empty_folder")}</p>`;
  return html`<ul class="entries" aria-label=${t("start.entries")}>
    ${data.entries.map((entry) => html`<${Entry} key=${entry.path} entry=${entry} wanted=${wanted} onOpen=${onOpen}
      onTake=${onTake} />`)}
  </ul>`;
}

function Entry({entry, wanted, onOpen, onTake}) {
  const opens = entry.kind !== "file";
  const taken = wanted.includes(entry.kind);
  const act = () => (opens && !(taken && entry.kind !== "folder") ? onOpen(entry.path) : onTake(entry.path));
  return html`<li class="entry">
    <button type="button" class="entry-name" disabled=${!opens && !taken} onClick=${act}>
      <${Icon} name=${ICONS[entry.kind] ?? "file"} size=${18} /><span class="entry-text">${entry.name}</span>
      <span class="soft small">${describe(entry)}</span>
    </button>
    ${opens && taken ? html`<${Button} class="small"
      onClick=${() => (entry.kind === "folder" ? onTake : onOpen)(entry.path)}>
      ${t(entry.kind === "folder" ? "start.take" : "start.look_inside")}<//>` : null}
  </li>`;
}

function describe(entry) {
  if (entry.kind === "file") return Number.isFinite(entry.size) ? formatBytes(entry.size) : "";
  return t(`start.kind_${entry.kind}`);
}
