// A dialog that lists the folders given on the command line, so that nobody has to type a path.

import {html, useState} from "./vendor/htm-preact.js";
import {useAnswer} from "./hooks.js";
import {Icon} from "./icons.js";
import {Button, Dialog, ErrorNotice, Spinner} from "./ui.js";
import {formatBytes} from "./format.js";
import {t} from "./i18n.js";

const ICONS = {folder: "folder", run: "run", model: "model", file: "file"};

// `wanted`: kinds of entries that can be taken, of file, folder, run, model. `onPick` gets the path of the entry.
export function FilePicker({title, wanted, lang, onPick, onClose}) {
  const [path, setPath] = useState("");
  const {data, error, pending} = useAnswer(`/api/files?path=${encodeURIComponent(path)}`, {lang});
  const take = (picked) => {
    onPick(picked);
    onClose();
  };
  return html`<${Dialog} title=${title} onClose=${onClose}>
    <nav class="line" aria-label=${t("start.place")}>
      <${Button} class="small" icon="up" disabled=${!data || path === ""} onClick=${() => setPath(parentOf(data, path))}>
        ${t("start.parent_folder")}<//>
      <code class="grow">${data?.shown ?? data?.path ?? path}</code>
      ${wanted.includes("folder") && path !== "" ? html`<${Button} class="small" kind="primary" onClick=${() => take(path)}>
        ${t("start.take_folder")}<//>` : null}
    </nav>
    <${ErrorNotice} error=${error} />
    ${!data && pending ? html`<${Spinner} />` : null}
    ${data ? html`<${Entries} data=${data} wanted=${wanted} onOpen=${setPath} onTake=${take} />` : null}
  <//>`;
}

function parentOf(data, path) {
  if (data.parent === "..") return path.split("/").slice(0, -1).join("/");
  return data.parent ?? "";
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
    ${opens && taken ? html`<${Button} class="small" onClick=${() => (entry.kind === "folder" ? onTake : onOpen)(entry.path)}>
      ${t(entry.kind === "folder" ? "start.take" : "start.look_inside")}<//>` : null}
  </li>`;
}

function describe(entry) {
  if (entry.kind === "file") return Number.isFinite(entry.size) ? formatBytes(entry.size) : "";
  return t(`start.kind_${entry.kind}`);
}
