// The first question: which data. What was read in it is shown at once.

import {html, useState} from "../vendor/htm-preact.js";
import {ErrorRemedy} from "../parameters/apply.js";
import {listOptions, shorten} from "../parameters/cards.js";
import {FilePicker} from "./filepicker.js";
import {hasData} from "./dataview.js";
import {DataSummary} from "./data_summary.js";
import {Question} from "../app/question.js";
import {change, endTyping, setValue} from "../app/store.js";
import {Button, ChoiceCards, ErrorNotice, Spinner} from "../app/ui.js";

export function DataQuestion({t, lang, draft, cards, chosen, view}) {
  const bundled = listOptions(cards, "data").filter((option) => option.name !== "file");
  const items = [
    {value: "file", title: t("start.own_data"), about: t("start.own_data_about")},
    ...bundled.map((option) => ({value: option.name, title: option.name, about: shorten(option.about)})),
  ];
  const choose = (name) => change({choices: {data: name}, values: name === "file" ? {} : {"data.path": null}});
  return html`<${Question} number="1" title=${t("start.data")}>
    <${ChoiceCards} name="data" label=${t("start.data")} items=${items} value=${chosen.data} onChoose=${choose} />
    ${chosen.data === "file" ? html`<${PathField} t=${t} lang=${lang} path="data.path"
      value=${draft.values["data.path"] ?? ""}
      label=${t("start.data_path")} help=${t("start.data_path_help")} wanted=${["file", "folder"]}
      title=${t("start.pick_data")} />` : null}
    ${hasData(draft) ? html`<div aria-live="polite" class="stack">
      ${view.pending && !view.data && !view.error ? html`<${Spinner} label=${view.preparing || t("start.reading")}
        />` : null}
      <${ErrorNotice} error=${view.error} title=${t("start.data_refused")}><${ErrorRemedy} error=${view.error} /><//>
      ${view.data && !view.error ? html`<${DataSummary} t=${t} data=${view.data} pending=${view.pending} />` : null}
    </div>` : null}
  <//>`;
}

// A path that can be typed or picked.
export function PathField({t, lang, path, value, label, help, wanted, title}) {
  const [picking, setPicking] = useState(false);
  const id = `field-${path}`;
  return html`<div class="field">
    <label for=${id}>${label} <code class="soft">${path}</code></label>
    <div class="line nowrap">
      <input id=${id} class="input mono" type="text" value=${value} spellcheck="false" autocomplete="off"
        autocapitalize="off" aria-describedby=${`${id}-help`} onInput=${(event) => setValue(path, event.target.value)}
        onBlur=${endTyping} />
      <${Button} icon="folder" onClick=${() => setPicking(true)}>${t("shell.browse")}<//>
    </div>
    <p class="soft small" id=${`${id}-help`}>${help}</p>
    ${picking ? html`<${FilePicker} title=${title} wanted=${wanted} lang=${lang} onClose=${() => setPicking(false)}
      onPick=${(picked) => setValue(path, picked)} />` : null}
  </div>`;
}
