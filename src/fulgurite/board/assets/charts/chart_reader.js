// Follows pointer, finger and keys over a chart: a slider over the steps, so that a screen reader speaks each value.

import {html, useEffect, useRef} from "../vendor/htm-preact.js";

export function Reader({t, title, plan, steps, index, setAt, text}) {
  const waiting = useRef(0);
  useEffect(() => () => cancelAnimationFrame(waiting.current), []);
  const {box, range} = plan;
  const wide = box.right - box.left;
  const last = steps.length - 1;

  // Many moves of a pointer become one redraw in the next frame.
  const follow = (event) => {
    const {left} = event.currentTarget.getBoundingClientRect();
    const share = Math.min(1, Math.max(0, (event.clientX - left) / wide));
    cancelAnimationFrame(waiting.current);
    waiting.current = requestAnimationFrame(() => setAt(range[0] + share * (range[1] - range[0])));
  };
  const leave = (event) => {
    cancelAnimationFrame(waiting.current);
    // A finger that is lifted leaves the values on the screen to be read.
    if (event.pointerType !== "touch") setAt(null);
  };
  const press = (event) => {
    if (event.key === "Escape") setAt(null);
    const next = findMove(event.key, index ?? last, last);
    if (next === null) return;
    event.preventDefault();
    setAt(steps[Math.min(last, Math.max(0, next))]);
  };
  const place = {left: `${box.left}px`, top: `${box.top}px`, width: `${wide}px`, height: `${box.bottom - box.top}px`};
  return html`<div class="chart-reader" role="slider" tabindex="0" aria-label=${t("run.chart.read", {title})}
    aria-valuemin=${steps[0]} aria-valuemax=${steps[last]} aria-valuenow=${steps[index ?? last]} aria-valuetext=${text}
    style=${place} onPointerMove=${follow} onPointerDown=${follow} onPointerLeave=${leave} onKeyDown=${press}
    onBlur=${() => setAt(null)}></div>`;
}

function findMove(key, here, last) {
  const page = Math.max(1, Math.round(last / 10));
  const moves = {
    ArrowLeft: here - 1, ArrowDown: here - 1, ArrowRight: here + 1, ArrowUp: here + 1, PageDown: here - page,
    PageUp: here + page, Home: 0, End: last,
  };
  return moves[key] ?? null;
}
