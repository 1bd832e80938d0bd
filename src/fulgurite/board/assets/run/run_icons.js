// Small pictures beside words: states of a run and severities. A picture never replaces the word.

import {html} from "../vendor/htm-preact.js";

const STATES = {
  starting: "M8 2a6 6 0 1 0 6 6",
  running: "M5 3.5 12.5 8 5 12.5Z",
  finished: "M3 8.5 6.5 12 13 4.5",
  stopped: "M4.5 4.5H11.5V11.5H4.5Z",
  failed: "M4 4 12 12M12 4 4 12",
  diverged: "M2.5 12.5 6 10 9 11 13 3M9.5 3H13V6.5",
  died: "M2.5 8H5L6.5 4 9.5 12 11 8M14 5 11 8M11 5 14 8",
  waiting: "M8 4V8L10.5 10M8 1.8a6.2 6.2 0 1 0 .01 0Z",
  pruned: "M3 8H9M6.5 5 9 8 6.5 11M12.5 3.5V12.5",
  unknown: "M5.5 6a2.5 2.5 0 1 1 3.4 2.3C8.2 8.6 8 9 8 10M8 12.4V12.6",
};
const FILLED = new Set(["running", "stopped"]);
const SEVERITIES = {
  note: "M8 7V11.5M8 4.6V4.8",
  warning: "M8 5.5V9.5M8 11.9V12.1",
  error: "M5.8 5.8 10.2 10.2M10.2 5.8 5.8 10.2",
};
const FRAMES = {
  note: "M8 1.2a6.8 6.8 0 1 0 .01 0Z",
  warning: "M8 1.5 15 14H1Z",
  error: "M5 1.5H11L14.5 5V11L11 14.5H5L1.5 11V5Z",
};

export function StateIcon({state}) {
  const name = state in STATES ? state : "unknown";
  return html`<svg class=${`icon${FILLED.has(name) ? " is-filled" : ""}`} width="16" height="16" viewBox="0 0 16 16"
    aria-hidden="true"><path d=${STATES[name]} /></svg>`;
}

export function SeverityIcon({severity}) {
  const name = severity in SEVERITIES ? severity : "note";
  return html`<svg class=${`icon severity-icon is-${name}`} width="16" height="16" viewBox="0 0 16 16"
    aria-hidden="true">
    <path class="severity-frame" d=${FRAMES[name]} /><path d=${SEVERITIES[name]} />
  </svg>`;
}

// The state of a run: picture and word.
export function State({t, state}) {
  const name = state in STATES ? state : "unknown";
  return html`<span class=${`state is-${name}`}><${StateIcon} state=${name} />${t(`run.state.${name}`)}</span>`;
}
