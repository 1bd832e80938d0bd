// Talks to the server: JSON in, JSON out; errors are sentences; streams come back after a lost connection.

export class ApiError extends Error {
  // status 0: the server did not answer at all. `about`: the parameter or group that the sentence is about, if known.
  constructor(status, sentence, body = {}) {
    super(sentence);
    this.status = status;
    this.words = body.words ?? "";
    this.about = body.about ?? "";
    this.body = body;
  }
}

// The state of the connection: "ok", "lost" (no answer) or "closed" (the cookie is not known: 401).
let connection = "ok";
const watchers = new Set();

export function watchConnection(watcher) {
  watchers.add(watcher);
  watcher(connection);
  return () => watchers.delete(watcher);
}

function setConnection(state) {
  if (state === connection) return;
  connection = state;
  for (const watcher of [...watchers]) watcher(state);
  if (state === "lost") setTimeout(tryAgain, 1000);
}

async function tryAgain() {
  if (connection !== "lost") return;
  try {
    const answer = await fetch("/", {method: "HEAD", cache: "no-store"});
    setConnection(answer.status === 401 ? "closed" : "ok");
  } catch {
    setTimeout(tryAgain, 2000);
  }
}

async function readAnswer(answer) {
  const body = await answer.json().catch(() => ({}));
  if (answer.ok) return body;
  if (answer.status === 401) setConnection("closed");
  throw new ApiError(answer.status, body.error ?? `HTTP ${answer.status}`, body);
}

async function send(path, options) {
  let answer;
  try {
    answer = await fetch(path, {cache: "no-store", credentials: "same-origin", ...options});
  } catch (error) {
    if (error.name === "AbortError") throw error;
    setConnection("lost");
    throw new ApiError(0, "");
  }
  if (connection === "lost") setConnection("ok");
  return answer;
}

function addLang(path, lang) {
  return lang ? `${path}${path.includes("?") ? "&" : "?"}lang=${lang}` : path;
}

export async function get(path, {lang, signal} = {}) {
  return readAnswer(await send(addLang(path, lang), {signal}));
}

export async function post(path, body = {}, {lang, signal} = {}) {
  return readAnswer(await send(addLang(path, lang), describePost(body, signal)));
}

function describePost(body, signal) {
  return {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body), signal};
}

// Opens an event stream. `makePath` is called at each connection, so that it can ask for what comes after the last
// event; `handlers` maps names of events to functions of their data. Returns a function that closes the stream.
export function openStream(makePath, handlers) {
  let source = null;
  let timer = 0;
  let wait = 500;
  let closed = false;
  const connect = () => {
    source = new EventSource(makePath());
    source.onopen = () => {
      wait = 500;
      if (connection === "lost") setConnection("ok");
    };
    for (const [name, handler] of Object.entries(handlers)) {
      source.addEventListener(name, (event) => {
        // The browser's own `error` event has no data.
        if (event.data !== undefined) handler(JSON.parse(event.data));
      });
    }
    // EventSource would come back with the old address and gives up after some answers: it is opened again here.
    source.onerror = (event) => {
      if (event.data !== undefined || closed) return;
      source.close();
      setConnection(connection === "closed" ? "closed" : "lost");
      timer = setTimeout(connect, wait);
      wait = Math.min(2 * wait, 8000);
    };
  };
  connect();
  return () => {
    closed = true;
    clearTimeout(timer);
    source.close();
  };
}

// Sends a body and reads the events of the answer, such as the tokens of a chat. Resolves at the end of the answer.
export async function postStream(path, body, handlers, {lang, signal} = {}) {
  const answer = await send(addLang(path, lang), describePost(body, signal));
  if (!answer.ok) return readAnswer(answer);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const {value, done} = await reader.read();
    if (done) return undefined;
    held += value.replaceAll("\r", "");
    const events = held.split("\n\n");
    held = events.pop();
    for (const event of events) handleEvent(event, handlers);
  }
}

function handleEvent(text, handlers) {
  let name = "message";
  const data = [];
  for (const line of text.split("\n")) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
  }
  if (data.length) handlers[name]?.(JSON.parse(data.join("\n")));
}
