// The texts of the page in the language in use. They come from the server; this module has none.

import {get} from "./api.js";
import {readWord, writeWord} from "./storage.js";

export const LANGUAGES = {en: "English", zh: "中文"};

let texts = {};
let language = "";

export function readLanguage() {
  const held = readWord("lang");
  if (held in LANGUAGES) return held;
  return (navigator.language || "en").startsWith("zh") ? "zh" : "en";
}

export async function loadLanguage(lang) {
  const answer = await get("/api/texts", {lang});
  texts = answer.texts;
  language = lang;
  document.documentElement.lang = lang === "zh" ? "zh-CN" : "en";
  document.title = texts["shell.title"] ?? document.title;
}

export function useChosenLanguage(lang) {
  writeWord("lang", lang);
}

export function getLanguage() {
  return language;
}

// The text with this id; {name} in it is replaced by places.name.
export function t(id, places = {}) {
  const text = texts[id];
  if (text === undefined) return id;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in places ? String(places[name]) : whole));
}

export function has(id) {
  return id in texts;
}
