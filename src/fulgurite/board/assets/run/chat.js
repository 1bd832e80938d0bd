// A chat with a run: answers arrive word by word and can be stopped. Everything is text, also what looks like HTML.

import {html, useEffect, useLayoutEffect, useRef, useState} from "../vendor/htm-preact.js";
import {postStream} from "../app/api.js";
import {useId} from "../app/hooks.js";
import {Button, ErrorNotice, IconButton} from "../app/ui.js";

const LONGEST = 512;

export function Chat({t, lang, run, onClose}) {
  const chat = useChat(run.id, lang);
  const [text, setText] = useState("");
  const [longest, setLongest] = useState(LONGEST);
  const id = useId("chat");
  const field = useRef(null);
  useEffect(() => field.current?.focus(), []);
  const send = () => {
    if (!text.trim() || chat.busy) return;
    chat.ask(text.trim(), longest);
    setText("");
  };
  const stop = () => {
    chat.stop();
    field.current.focus();  // the button goes away
  };
  const press = (event) => {
    // Enter also confirms a word of a Chinese input method, which must not send the question.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  };
  return html`<section class="panel stack chat" aria-labelledby=${`${id}-title`}>
    <div class="line"><h2 id=${`${id}-title`} class="grow">${t("run.chat.title", {name: run.name})}</h2>
      <${IconButton} icon="close" label=${t("run.chat.close")} onClick=${onClose} /></div>
    <${Settings} t=${t} id=${id} chat=${chat} longest=${longest} setLongest=${setLongest} />
    <${Messages} t=${t} chat=${chat} />
    <${ErrorNotice} error=${chat.error} />
    <div class="chat-form">
      <label class="hidden" for=${`${id}-text`}>${t("run.chat.question")}</label>
      <textarea ref=${field} id=${`${id}-text`} class="input chat-text" rows="2" placeholder=${t("run.chat.question")}
        value=${text} onInput=${(event) => setText(event.currentTarget.value)} onKeyDown=${press}></textarea>
      <div class="line">
        ${chat.busy
          ? html`<${Button} icon="stop" onClick=${stop}>${t("run.chat.stop")}<//>`
          : html`<${Button} kind="primary" disabled=${!text.trim()} onClick=${send}>${t("run.chat.send")}<//>`}
        <${Button} kind="quiet" disabled=${!chat.messages.length} onClick=${chat.reset}>${t("run.chat.reset")}<//>
      </div>
    </div>
  </section>`;
}

function Settings({t, id, chat, longest, setLongest}) {
  const takeLongest = (event) => {
    const count = Math.round(Number(event.currentTarget.value));
    if (count > 0) setLongest(count);
  };
  return html`<details>
    <summary>${t("run.chat.settings")}</summary>
    <div class="chat-settings">
      <div class="field grow"><label for=${`${id}-system`}>${t("run.chat.system")}</label>
        <textarea id=${`${id}-system`} class="input chat-text" rows="2" value=${chat.system}
          onInput=${(event) => chat.setSystem(event.currentTarget.value)}></textarea></div>
      <div class="field"><label for=${`${id}-longest`}>${t("run.chat.longest")}</label>
        <input id=${`${id}-longest`} class="input" type="number" min="1" max="8192" value=${longest}
          onChange=${takeLongest} /></div>
    </div>
  </details>`;
}

function Messages({t, chat}) {
  const list = useRef(null);
  const follows = useRef(true);
  // The list follows the answer, unless somebody has scrolled up to read.
  useLayoutEffect(() => {
    if (list.current && follows.current) list.current.scrollTop = list.current.scrollHeight;
  });
  const watch = ({currentTarget: node}) => {
    follows.current = node.scrollHeight - node.scrollTop - node.clientHeight < 40;
  };
  if (!chat.messages.length) return html`<p class="soft">${t("run.chat.empty")}</p>`;
  return html`<ol class="chat-messages" ref=${list} onScroll=${watch} tabindex="0" role="log" aria-busy=${chat.busy}
    aria-label=${t("run.chat.messages")}>
    ${chat.messages.map(({role, content}, n) => html`<li key=${n} class=${`chat-message is-${role}`}>
      <span class="label">${t(`run.chat.${role}`)}</span>
      <p class="chat-content">${content || (chat.busy ? "…" : t("run.chat.nothing"))}</p>
    </li>`)}
  </ol>`;
}

// The messages so far, and what can be done with them. An answer that was stopped stays as far as it came.
function useChat(run, lang) {
  const [messages, setMessages] = useState([]);
  const [system, setSystem] = useState("");
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const controller = useRef(null);
  const stop = () => controller.current?.abort();
  useEffect(() => stop, []);

  const ask = async (question, longest) => {
    const asked = [...messages, {role: "user", content: question}];
    const own = new AbortController();
    controller.current = own;
    let answer = "";
    const show = () => {
      if (controller.current === own) setMessages([...asked, {role: "assistant", content: answer}]);
    };
    setError(null);
    setBusy(true);
    show();
    const head = system.trim() ? [{role: "system", content: system}] : [];
    const body = {messages: [...head, ...asked], max_new_tokens: longest};
    const handlers = {
      token: ({text}) => {
        answer += text;
        show();
      },
      error: ({error: sentence}) => setError({message: sentence}),
    };
    try {
      await postStream(`/api/runs/${encodeURIComponent(run)}/chat`, body, handlers, {lang, signal: own.signal});
    } catch (problem) {
      if (problem.name !== "AbortError" && controller.current === own) setError(problem);
    }
    // After a reset another question may be on its way already.
    if (controller.current === own) setBusy(false);
  };
  const reset = () => {
    stop();
    controller.current = null;
    setMessages([]);
    setError(null);
    setBusy(false);
  };
  return {messages, system, setSystem, error, busy, ask, stop, reset};
}
