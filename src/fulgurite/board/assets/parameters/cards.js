// The declarations as the page uses them: groups with their options, and the card of each parameter. Loaded once a
// language.

import {useEffect, useState} from "../vendor/htm-preact.js";
import {get} from "../app/api.js";

const loads = new Map();
const loaded = new Map();

export function loadCards(lang) {
  if (!loads.has(lang)) {
    const load = get("/api/cards", {lang}).then((cards) => {
      loaded.set(lang, cards);
      return cards;
    });
    // A failed load is asked again by whoever needs it next.
    load.catch(() => loads.delete(lang));
    loads.set(lang, load);
  }
  return loads.get(lang);
}

export function useCards(lang) {
  const [state, setState] = useState({cards: loaded.get(lang) ?? null, error: null});
  useEffect(() => {
    let timer = 0;
    let current = true;
    const load = () => loadCards(lang).then(
      (cards) => current && setState({cards, error: null}),
      (error) => {
        if (!current) return;
        setState({cards: null, error});
        timer = setTimeout(load, 2000);
      },
    );
    load();
    return () => {
      current = false;
      clearTimeout(timer);
    };
  }, [lang]);
  return state;
}

export function findGroup(cards, name) {
  return cards?.groups.find((group) => group.name === name) ?? null;
}

export function listOptions(cards, name) {
  return findGroup(cards, name)?.options ?? [];
}

// A parameter may have a card for each option that declares it: optim.lr of muon is another one than that of adamw.
export function findCard(cards, path, option) {
  const all = cards?.cards[path] ?? [];
  return all.find((card) => card.options.includes(option)) ?? all.find((card) => card.options.includes("")) ?? all[0]
    ?? null;
}

const SHORT = 105;

// The first sentences of an explanation, for cards that stand beside others.
export function shorten(text) {
  const sentences = text.split(/(?<=[.] )(?=[A-Z])|(?<=。)/);
  let out = "";
  for (const sentence of sentences) {
    if (out && measure(out + sentence) > SHORT) break;
    out += sentence;
  }
  return out.trim();
}

// Chinese characters are as wide as two letters.
function measure(text) {
  return text.length + (text.match(/[\u3000-\u9fff\uff00-\uffef]/g) ?? []).length;
}

// The options that a run has if nobody chooses.
export function listDefaults(cards) {
  const found = {};
  for (const group of cards?.groups ?? []) {
    const option = group.options.find((one) => one.default);
    if (option) found[group.name] = option.name;
  }
  return found;
}

// The sentence of an option: what it is, and what it costs.
export function describeOption(option) {
  return [option.about, option.costs].filter(Boolean).join(" ");
}
