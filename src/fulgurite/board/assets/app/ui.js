// Small parts that every screen uses. Text comes in as a property or a child; none of it is HTML.

import {Component, html, useEffect, useRef, useState} from "../vendor/htm-preact.js";
import {t} from "./i18n.js";
import {Icon} from "./icons.js";
import {useId} from "./hooks.js";

// Screen readers hear what is announced here once the page is quiet.
const announcers = new Set();

export function announce(text) {
  for (const hear of announcers) hear(text);
}

export function Announcer() {
  const [text, setText] = useState("");
  useEffect(() => {
    announcers.add(setText);
    return () => announcers.delete(setText);
  }, []);
  return html`<div class="hidden" role="status" aria-live="polite">${text}</div>`;
}

export function Button({kind = "plain", icon, children, ...rest}) {
  return html`<button type="button" ...${rest} class=${`button ${kind} ${rest.class ?? ""}`}>
    ${icon ? html`<${Icon} name=${icon} size=${16} />` : null}${children}
  </button>`;
}

export function IconButton({icon, label, ...rest}) {
  return html`<button type="button" title=${label} aria-label=${label} ...${rest}
    class=${`icon-button ${rest.class ?? ""}`}>
    <${Icon} name=${icon} size=${18} />
  </button>`;
}

// Copies a text; says so in place for two seconds. Without the clipboard (an address that is not secure) it selects
// a hidden field and lets the browser copy that.
export function CopyButton({text, label, kind = "plain"}) {
  const [done, setDone] = useState(false);
  useEffect(() => {
    const timer = done ? setTimeout(() => setDone(false), 2000) : 0;
    return () => clearTimeout(timer);
  }, [done]);
  const copy = async () => {
    await copyText(text);
    setDone(true);
    announce(t("shell.copied"));
  };
  return html`<${Button} kind=${kind} icon=${done ? "check" : "copy"} onClick=${copy} aria-label=${label}>
    <span class="wide-only">${done ? t("shell.copied") : t("shell.copy")}</span>
  <//>`;
}

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = document.createElement("textarea");
    field.value = text;
    field.className = "hidden";
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
}

// Text with `code` between backticks, as the sentences of the declarations have it. The parts are text, never HTML.
export function rich(text) {
  const parts = String(text ?? "").split("`");
  if (parts.length < 3) return text;
  return parts.map((part, index) => (index % 2 ? html`<code key=${index}>${part}</code>` : part));
}

const ICON_OF = {error: "error", warning: "warn", info: "info", ok: "check"};

export function Notice({level = "info", title, children, live}) {
  return html`<div class=${`notice ${level}`} role=${live ? "alert" : null}>
    <${Icon} name=${ICON_OF[level] ?? "info"} />
    <div class="notice-text">${title ? html`<strong>${title}</strong>` : null}${children}</div>
  </div>`;
}

export function Chip({level = "plain", title, children}) {
  return html`<span class=${`chip ${level}`} title=${title}>${children}</span>`;
}

export function Spinner({label}) {
  return html`<span class="busy" role="status"><span class="spinner" aria-hidden="true">
    </span>${label ?? t("shell.loading")}</span>`;
}

// The browser's own dialog keeps the focus inside, closes on Escape and gives the focus back.
export function Dialog({title, onClose, children, wide = false}) {
  const node = useRef(null);
  // A dialog that the page takes away closes as well, which is not the person's wish.
  const gone = useRef(false);
  const id = useId("dialog");
  useEffect(() => {
    const shown = node.current;
    shown.showModal();
    return () => {
      gone.current = true;
      shown.close();
    };
  }, []);
  const closeOutside = (event) => {
    if (event.target === node.current) onClose();
  };
  return html`<dialog ref=${node} class=${wide ? "dialog wide" : "dialog"} aria-labelledby=${id}
      onClose=${() => !gone.current && onClose()} onClick=${closeOutside}>
    <div class="dialog-inside">
      <header class="dialog-head">
        <h2 id=${id}>${title}</h2>
        <${IconButton} icon="close" label=${t("shell.close")} onClick=${onClose} />
      </header>
      ${children}
    </div>
  </dialog>`;
}

// One choice of several, as cards. `items`: {value, title, about, reason (why it cannot be chosen, or "")}.
export function ChoiceCards({name, label, items, value, onChoose, columns = 2}) {
  return html`<div class=${`cards columns-${columns}`} role="radiogroup" aria-label=${label}>
    ${items.map((item) => html`<${ChoiceCard} key=${item.value} name=${name} item=${item}
      checked=${item.value === value}
      onChoose=${onChoose} />`)}
  </div>`;
}

function ChoiceCard({name, item, checked, onChoose}) {
  const id = useId("about");
  const dimmed = Boolean(item.reason);
  return html`<label class=${`card choice ${checked ? "chosen" : ""} ${dimmed ? "dimmed" : ""}`}>
    <input type="radio" name=${name} value=${item.value} checked=${checked} disabled=${dimmed && !checked}
      aria-describedby=${id} onChange=${() => onChoose(item.value)} />
    <span class="choice-text">
      <span class="choice-title">${item.title}${item.code ? html` <code>${item.code}</code>` : null}</span>
      <span id=${id} class="choice-about">${rich(item.about)}
        ${dimmed ? html`<span class="choice-reason">${item.reason}</span>` : null}</span>
    </span>
  </label>`;
}

// A screen that fails shows the error; the others still work, and the draft is kept.
export class Boundary extends Component {
  constructor() {
    super();
    this.state = {error: null};
  }

  static getDerivedStateFromError(error) {
    return {error};
  }

  componentDidCatch(error) {
    console.error(error);
  }

  render() {
    if (!this.state.error) return this.props.children;
    return html`<${Notice} level="error" title=${t("shell.screen_failed")} live>
      <p><code>${String(this.state.error?.message ?? this.state.error)}</code></p>
      <p><${Button} onClick=${() => location.reload()}>${t("shell.reload")}<//></p>
    <//>`;
  }
}

// The sentence of an error and, if the server gave them, the words that would put it right.
export function ErrorNotice({error, level = "error", title, children}) {
  if (!error) return null;
  const sentence = error.status === 0 ? t("shell.connection_lost") : error.message;
  return html`<${Notice} level=${level} title=${title} live>
    <p>${rich(sentence)}</p>
    ${error.words && !error.body?.changes ? html`<p><code>${error.words}</code></p>` : null}
    ${children}
  <//>`;
}
