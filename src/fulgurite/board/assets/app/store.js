// The draft: what the person chose and typed so far. A tab keeps its own; a new tab begins with the newest.

import {useEffect, useState} from "../vendor/htm-preact.js";
import {read, write} from "./storage.js";

const EMPTY = {choices: {}, values: {}, adds: {}};
const PARTS = Object.keys(EMPTY);
const UNDO_STEPS = 100;

const listeners = new Set();
let past = [];
let lastTag = "";
let draft = start();

function start() {
  return clean(read("draft", "sessionStorage") ?? read("draft") ?? EMPTY);
}

// What was stored may come from an older version of the page: only plain words in the three parts are kept.
function clean(value) {
  const out = {choices: {}, values: {}, adds: {}};
  for (const part of PARTS) {
    for (const [name, word] of Object.entries(value?.[part] ?? {})) {
      if (word !== null && word !== undefined && word !== "") out[part][name] = toWord(word, part);
    }
  }
  return out;
}

// Groups such as callbacks may have several options; everything else is text.
function toWord(word, part) {
  if (part === "choices" && Array.isArray(word)) return word.map(String);
  return typeof word === "object" ? JSON.stringify(word) : String(word);
}

function put(next, tag) {
  if (JSON.stringify(next) === JSON.stringify(draft)) return;
  // Letters typed one after the other into the same field are one step of undo.
  if (tag === "" || tag !== lastTag) past = [...past.slice(1 - UNDO_STEPS), draft];
  lastTag = tag;
  publish(next);
}

function publish(next) {
  draft = next;
  write("draft", draft, "sessionStorage");
  write("draft", draft);
  for (const listener of [...listeners]) listener(draft);
}

export function getDraft() {
  return draft;
}

// Merges a change of the same form as a draft; null or an empty text takes a word out.
export function change(changes, tag = "") {
  put(applyChanges(draft, changes), tag);
}


export function setValue(path, text) {
  change({values: {[path]: text}}, `value ${path}`);
}

export function setAdd(group, option) {
  change({adds: {[group]: option}});
}

// The draft as a change would leave it.
export function applyChanges(held, changes) {
  const next = {...held};
  for (const part of PARTS) next[part] = {...held[part], ...(changes[part] ?? {})};
  return clean(next);
}

// The end of typing into a field: what is typed there next is a step of undo of its own.
export function endTyping() {
  lastTag = "";
}

export function replaceDraft(next) {
  put(clean(next), "");
}

export function clearDraft() {
  replaceDraft(EMPTY);
}

export function canUndo() {
  return past.length > 0;
}

export function undo() {
  if (!past.length) return;
  const before = past[past.length - 1];
  past = past.slice(0, -1);
  lastTag = "";
  publish(before);
}

export function isEmpty() {
  return PARTS.every((part) => Object.keys(draft[part]).length === 0);
}

export function watchDraft(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function useDraft() {
  const [held, setHeld] = useState(draft);
  useEffect(() => {
    setHeld(draft);
    return watchDraft(setHeld);
  }, []);
  return held;
}
