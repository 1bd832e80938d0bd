// The list of runs, followed as it changes, and the curves of those that are compared.

import {useEffect, useRef, useState} from "../vendor/htm-preact.js";
import {get, openStream} from "../app/api.js";
import {useRestored} from "../app/hooks.js";
import {Redraw} from "../app/redraw.js";

const POINTS = 400;
// The longest time in milliseconds between two readings of a long list in which only steps were taken.
const LATEST = 60_000;

export function useRuns(lang) {
  const [state, setState] = useState({list: null, error: null, round: 0});
  const reading = useRef(null);
  useEffect(() => {
    const controller = new AbortController();
    const load = () => get("/api/runs", {lang, signal: controller.signal}).then(
      (list) => setState((held) => ({list, error: null, round: held.round + 1})),
      (error) => error.name !== "AbortError" && setState((held) => ({...held, error})),
    );
    reading.current = new Redraw(load, LATEST);
    reading.current.run();
    const close = followList(reading.current);
    return () => {
      close();
      reading.current.cancel();
      controller.abort();
    };
  }, [lang]);
  useRestored(() => reading.current.soon());
  return state;
}

// Reads the list again when it has changed; a tab that nobody looks at gives its connection back.
function followList(reading) {
  let close = () => {};
  const note = ({progress}) => (progress ? reading.later() : reading.soon());
  const follow = () => {
    close();
    close = () => {};
    if (!document.hidden) close = openStream(() => "/api/events", {runs: note});
  };
  const look = () => {
    follow();
    if (!document.hidden) reading.soon();
  };
  follow();
  document.addEventListener("visibilitychange", look);
  return () => {
    document.removeEventListener("visibilitychange", look);
    close();
  };
}

// The curves of several runs by id. Those of a run that trains are read again whenever the list changes.
export function useCurves(runs, round) {
  const [held, setHeld] = useState({});
  const key = runs.map(({id}) => id).join(" ");
  useEffect(() => {
    const controller = new AbortController();
    for (const {id, live} of runs) {
      if (held[id] && !live && held[id].ended) continue;
      get(`/api/runs/${encodeURIComponent(id)}/metrics?points=${POINTS}`, {signal: controller.signal}).then(
        (curves) => setHeld((before) => ({...before, [id]: {...curves, ended: !live}})),
        () => {},  // a run without rows has no curve; the line about a lost connection is the page's
      );
    }
    return () => controller.abort();
  }, [key, round]);
  return held;
}
