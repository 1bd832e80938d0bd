// The plan of the draft, computed again whenever the draft changes while a screen shows it. The newest answer wins;
// the old one stays until then. There is one planner for the page, so that moving between screens asks nothing twice.

import {useEffect, useState} from "../vendor/htm-preact.js";
import {post, watchConnection} from "../app/api.js";
import {getDraft, watchDraft} from "../app/store.js";

const DELAY = 150;
const RETRY = 1500;
// Two copies of a tab share sessionStorage; the server must not take one for the other.
const TAB = crypto.randomUUID ? crypto.randomUUID() : String(Math.random()).slice(2);

// `plan`: the newest answer. `error`: why the newest draft has none. `about`: the parameter of the error.
// `draft`: what `plan` was computed for. `pending`: an answer is on its way.
// `preparing`: what the server does first, such as unpacking a model; it is asked again.
let state = {plan: null, error: null, about: "", draft: null, pending: false, preparing: ""};
const watchers = new Set();
let lang = "";
let seq = 0;
let timer = 0;
let controller = null;
let answered = "";

function publish(changes) {
  state = {...state, ...changes};
  for (const watcher of [...watchers]) watcher(state);
}

function keyOf(draft) {
  return `${lang} ${JSON.stringify(draft)}`;
}

function schedule(delay = DELAY) {
  clearTimeout(timer);
  if (!watchers.size || !lang) return;
  if (keyOf(getDraft()) === answered) {
    // Back at the draft that is on the screen: the answer on its way is of no use.
    controller?.abort();
    if (state.pending) publish({pending: false});
    return;
  }
  if (!state.pending) publish({pending: true});
  timer = setTimeout(compute, delay);
}

async function compute() {
  controller?.abort();
  controller = new AbortController();
  const mine = ++seq;
  const draft = getDraft();
  const key = keyOf(draft);
  try {
    const plan = await post("/api/plan", {draft, seq: mine, tab: TAB}, {lang, signal: controller.signal});
    if (mine !== seq || plan.superseded) return;
    if (plan.preparing) {
      publish({preparing: plan.preparing, error: null, about: "", pending: true});
      timer = setTimeout(compute, RETRY);
      return;
    }
    answered = key;
    publish({plan, error: null, about: "", draft, pending: false, preparing: ""});
  } catch (error) {
    if (error.name === "AbortError" || error.status === 409 || mine !== seq) return;
    handleError(error, draft, key);
  }
}

function handleError(error, draft, key) {
  if (error.status === 0) {
    publish({pending: true});  // asked again when the connection is back
    return;
  }
  if (error.status === 503) timer = setTimeout(compute, RETRY);
  else answered = key;
  const about = error.about || findParameter(error.message, draft);
  publish({error, about, pending: error.status === 503, preparing: ""});
  if (!state.plan && about) computeWithout(about, draft);
}

// A page that is opened with a value that is not allowed still needs the rows: the plan without that value has them.
async function computeWithout(about, draft) {
  const rest = {choices: {...draft.choices}, values: {...draft.values}, adds: {...draft.adds}};
  for (const part of Object.values(rest)) delete part[about];
  if (JSON.stringify(rest) === JSON.stringify(draft)) return;
  const mine = ++seq;
  try {
    const plan = await post("/api/plan", {draft: rest, seq: mine, tab: TAB}, {lang});
    if (mine === seq && !plan.superseded && !plan.preparing) publish({plan, draft: rest});
  } catch {
    // The first error is already shown.
  }
}

// The sentences of refused values begin with or hold `optim.lr=abc`.
function findParameter(sentence, draft) {
  const names = [...Object.keys(draft.values), ...Object.keys(draft.choices), ...Object.keys(draft.adds)];
  return names.find((name) => sentence.includes(`${name}=`)) ?? names.find((name) => sentence.includes(name)) ?? "";
}

export function retryPlan() {
  answered = "";
  schedule(0);
}

watchDraft(() => schedule());

let before = "ok";
watchConnection((now) => {
  if (before === "lost" && now === "ok" && state.pending) schedule(0);
  before = now;
});

export function usePlan(wanted) {
  const [held, setHeld] = useState(state);
  useEffect(() => {
    watchers.add(setHeld);
    lang = wanted;
    setHeld(state);
    schedule(state.plan ? DELAY : 0);
    return () => watchers.delete(setHeld);
  }, [wanted]);
  return held;
}

// Why a run cannot be started now, as a sentence, or "". A refused plan has a finding that refuses.
export function findObstacle({plan, error}) {
  if (error) return error.message;
  const finding = plan?.refused ? plan.findings.find((one) => one.refuses && !one.allowed) : null;
  return finding ? finding.sentence : "";
}
