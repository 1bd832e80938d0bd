// The list of runs, followed as it changes, and the curves of those that are compared.

import {useEffect, useState} from "../vendor/htm-preact.js";
import {get, openStream} from "../app/api.js";
import {useRestored} from "../app/hooks.js";

const POINTS = 400;

export function useRuns(lang) {
  const [state, setState] = useState({list: null, error: null});
  const [round, setRound] = useState(0);
  const again = () => setRound((n) => n + 1);
  useEffect(() => {
    const controller = new AbortController();
    get("/api/runs", {lang, signal: controller.signal}).then(
      (list) => setState({list, error: null}),
      (error) => error.name !== "AbortError" && setState((held) => ({...held, error})),
    );
    return () => controller.abort();
  }, [lang, round]);
  useEffect(() => followList(again), []);
  useRestored(again);
  return {...state, round};
}

// Calls `again` when the list has changed; a tab that nobody looks at gives its connection back.
function followList(again) {
  let close = () => {};
  const follow = () => {
    close();
    close = () => {};
    if (document.hidden) return;
    close = openStream(() => "/api/events", {runs: again});
  };
  const look = () => {
    follow();
    if (!document.hidden) again();
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
