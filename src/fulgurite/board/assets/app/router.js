// Hash routes: #/start, #/parameters, #/plan, #/run/ID, #/launch/ID, #/runs, #/learn; what follows ? are named words.

import {useEffect, useState} from "../vendor/htm-preact.js";

export const SCREENS = ["start", "parameters", "plan", "run", "runs", "learn"];
const HIDDEN = ["launch"];

export function parseHash(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
  const [screen, ...rest] = path.split("/").map(decodePart);
  const known = SCREENS.includes(screen) || HIDDEN.includes(screen);
  return {screen: known ? screen : "start", id: rest[0] ?? "", rest,
    query: Object.fromEntries(new URLSearchParams(query))};
}

function decodePart(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export function makeHash(screen, id = "", query = {}) {
  const words = new URLSearchParams(query).toString();
  return `#/${screen}${id ? `/${encodeURIComponent(id)}` : ""}${words ? `?${words}` : ""}`;
}

// `replace` leaves no entry in the history, so that Back does not return to a page that only forwarded.
export function go(screen, id = "", {query = {}, replace = false} = {}) {
  const hash = makeHash(screen, id, query);
  if (replace) {
    history.replaceState(null, "", hash);
    dispatchEvent(new HashChangeEvent("hashchange"));
  } else {
    location.hash = hash;
  }
}

export function useRoute() {
  const [route, setRoute] = useState(() => parseHash(location.hash));
  useEffect(() => {
    const follow = () => setRoute(parseHash(location.hash));
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  return route;
}
