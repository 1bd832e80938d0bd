// The input of a parameter: text that is kept as typed, a choice or a switch.

import {html, useState} from "../vendor/htm-preact.js";
import {t} from "../app/i18n.js";
import {endTyping, setValue} from "../app/store.js";

// `typed`: what the person typed, or undefined. `level`: "", "warning" or "error".
export function Field({row, id, typed, level, describedBy}) {
  const common = {id, "aria-describedby": describedBy, "aria-invalid": level === "error" ? "true" : null};
  const shown = typed ?? row.text ?? "";
  if (row.kind === "bool" && (row.text === "" || row.empty)) {
    return html`<${Choice} row=${{...row, choices: ["true", "false"]}} shown=${shown} common=${common} level=${level}
      />`;
  }
  if (row.kind === "bool") return html`<${Switch} row=${row} shown=${shown} common=${common} />`;
  if (row.kind === "choice" && row.choices?.length) return html`<${Choice} row=${row} shown=${shown} common=${common}
    level=${level} />`;
  return html`<${TextField} row=${row} shown=${shown} typed=${typed} common=${common} level=${level} />`;
}

function Switch({row, shown, common}) {
  const on = /^(true|yes|on|1)$/i.test(shown);
  return html`<span class="switch">
    <input type="checkbox" ...${common} checked=${on}
      onChange=${(event) => setValue(row.path, String(event.target.checked))} />
    <span class="mono" aria-hidden="true">${on ? "true" : "false"}</span>
  </span>`;
}

function Choice({row, shown, common, level}) {
  const known = row.choices.includes(shown);
  return html`<select ...${common} class=${`input ${level === "warning" ? "warned" : ""}`} value=${shown}
      onChange=${(event) => setValue(row.path, event.target.value)}>
    ${known ? null : html`<option value=${shown}>${shown || t("parameters.empty")}</option>`}
    ${row.choices.map((choice) => html`<option key=${choice} value=${choice}>${choice}</option>`)}
  </select>`;
}

// While the field has the focus it holds its own text: emptied, it stays empty, and does not jump to the derived value.
function TextField({row, shown, typed, common, level}) {
  const [local, setLocal] = useState(null);
  const value = local ?? shown;
  const type = (event) => {
    setLocal(event.target.value);
    setValue(row.path, event.target.value.trim() === "" ? null : event.target.value);
  };
  const leave = () => {
    setLocal(null);
    endTyping();
  };
  const keys = (event) => {
    if (event.key === "Escape" && typed !== undefined) {
      setValue(row.path, null);
      setLocal(null);
      event.stopPropagation();
    }
  };
  const classes = ["input", row.kind === "text" ? "" : "mono", level === "warning" ? "warned" : "", typed === undefined
    ? "untouched" : ""];
  return html`<input ...${common} class=${classes.join(" ")} type="text" value=${value}
    placeholder=${t("parameters.empty")}
    spellcheck="false" autocomplete="off" autocapitalize="off" onInput=${type} onBlur=${leave} onKeyDown=${keys}
    onFocus=${(event) => {
      setLocal(shown);
      event.target.select();
    }} />`;
}
