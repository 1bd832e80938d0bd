// Findings pinned at their step: a button each, its sentences on hover, on focus and on tap.

import {html, useState} from "../vendor/htm-preact.js";
import {SeverityIcon} from "../run/run_icons.js";
import {nameStep} from "../app/numbers.js";

const WORST_FIRST = ["error", "warning", "note"];

export function Markers({t, plan, width}) {
  const [open, setOpen] = useState(null);
  return plan.groups.map((group) => html`<${Marker} key=${group.step} t=${t} group=${group} plan=${plan} width=${width}
    isOpen=${open === group.step} show=${() => setOpen(group.step)} hide=${() => setOpen(null)} />`);
}

function Marker({t, group, plan, width, isOpen, show, hide}) {
  const {markers, place} = group;
  const worst = WORST_FIRST.find((each) => markers.some(({severity}) => severity === each)) ?? "note";
  const press = (event) => {
    if (event.key === "Escape") hide();
  };
  // A tip opens towards the wider side, so that it stays inside the chart.
  const side = place < width / 2
    ? {left: `${Math.max(4, place - 20)}px`}
    : {right: `${Math.max(4, width - place - 20)}px`};
  return html`<div class="marker">
    <button type="button" class=${`marker-button is-${worst}`} aria-expanded=${isOpen}
      aria-label=${markers.map((marker) => describe(t, marker)).join(" ")}
      style=${{left: `${place}px`, top: `${plan.box.top - 14}px`}}
      onPointerEnter=${show} onPointerLeave=${hide} onFocus=${show} onBlur=${hide} onClick=${show} onKeyDown=${press}>
      <${SeverityIcon} severity=${worst} />
      ${markers.length > 1 && html`<span class="marker-count">${markers.length}</span>`}
    </button>
    ${isOpen && html`<div class="marker-tip" aria-hidden="true" style=${{...side, top: `${plan.box.top + 2}px`}}>
      ${markers.map((marker, n) => html`<p key=${n}>
        <b>${nameStep(t, marker.step)}</b> ${marker.text}
      </p>`)}
    </div>`}
  </div>`;
}

function describe(t, {step, severity, text}) {
  return `${nameStep(t, step)}, ${t(`run.severity.${severity}`)}: ${text}`;
}
