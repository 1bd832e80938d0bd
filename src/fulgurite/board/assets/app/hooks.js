// Small hooks that the screens share.

import {useCallback, useEffect, useRef, useState} from "../vendor/htm-preact.js";
import {get, post, watchConnection} from "./api.js";

const RETRY = 1500;

// Asks again when the path or the language changes and when a lost connection is back; `null` as a path asks nothing.
// The old answer stays while the new one is on its way. `preparing`: what the server does first; it is asked again.
export function useAnswer(path, {lang = "", body} = {}) {
  const [state, setState] = useState({data: null, error: null, pending: path !== null});
  const [round, setRound] = useState(0);
  const text = body === undefined ? "" : JSON.stringify(body);
  useEffect(() => {
    if (path === null) return undefined;
    const controller = new AbortController();
    const options = {lang, signal: controller.signal};
    setState((held) => ({...held, pending: true}));
    let timer = 0;
    const asked = text ? post(path, JSON.parse(text), options) : get(path, options);
    asked.then(
      (data) => {
        if (data.preparing) {
          setState((held) => ({data: held.data, error: null, pending: true, preparing: data.preparing}));
          timer = setTimeout(() => setRound((n) => n + 1), RETRY);
        } else {
          setState({data, error: null, pending: false});
        }
      },
      (error) => {
        if (error.name !== "AbortError") setState((held) => ({data: held.data, error, pending: false}));
      },
    );
    return () => {
      clearTimeout(timer);
      controller.abort();
    };
  }, [path, lang, text, round]);
  useRestored(() => setRound((n) => n + 1));
  return {...state, reload: useCallback(() => setRound((n) => n + 1), [])};
}

export function useConnection() {
  const [state, setState] = useState("ok");
  useEffect(() => watchConnection(setState), []);
  return state;
}

// Calls `action` when a lost connection is back.
export function useRestored(action) {
  const held = useRef(action);
  held.current = action;
  useEffect(() => {
    let before = "ok";
    return watchConnection((state) => {
      if (before === "lost" && state === "ok") held.current();
      before = state;
    });
  }, []);
}

// The value as it was `delay` milliseconds ago, once it rests.
export function useDebounced(value, delay) {
  const [held, setHeld] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setHeld(value), delay);
    return () => clearTimeout(timer);
  }, [value, delay]);
  return held;
}

let counter = 0;

export function useId(prefix = "id") {
  const held = useRef("");
  if (!held.current) held.current = `${prefix}-${++counter}`;
  return held.current;
}
