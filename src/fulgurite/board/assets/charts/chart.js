// A line chart as SVG: raw and smoothed lines, findings pinned at their step, values by mouse, touch and arrow keys.
//
// uPlot was looked at (50 kB, canvas). It is faster beyond 100,000 points, but the server sends about 800, and a
// canvas has no text for a screen reader, no focus for a pinned finding, and does not follow the colours of the
// theme. SVG has all three, and 2,000 points are drawn in one frame.

import {html, useEffect, useLayoutEffect, useMemo, useRef, useState} from "../vendor/htm-preact.js";
import {Crosshair, Legend, Lines, OneValue, describeStep} from "./chart_lines.js";
import {Markers} from "./chart_marks.js";
import {Reader} from "./chart_reader.js";
import {
  buildScale, findExtent, findNearest, groupMarkers, listLogTicks, listSteps, listTicks, padExtent,
} from "./chart_scale.js";
import {ValueTable} from "./chart_table.js";

const SPACE = {top: 8, right: 12, bottom: 24, left: 48};
const MARKER_LANE = 22;
const MARKER_DISTANCE = 26;

// series: [{id, label, tone: 1 to 8, points: [[step, value], ...], faint, noisy, dots, format}], markers: [{step,
// severity, text}]. A faint series is the raw one behind a smoothed one. `unit` is the id of the text of a step.
// Lines that are `growing` are drawn anew only while they are on the screen.
export function LineChart({
  t, title, series, markers = [], height = 240, canLog = false, growing = false, unit = "run.chart.step",
}) {
  const [frame, width] = useWidth();
  const [log, setLog] = useState(false);
  const [at, setAt] = useState(null);
  const newest = useHeldOffScreen(frame, series, growing);
  const drawn = useMemo(() => newest.filter(({points}) => points.length > 0), [newest]);
  const steps = useMemo(() => listSteps(drawn), [drawn]);
  const plan = useMemo(() => layOut(drawn, markers, steps, {width, height, log}), [drawn, markers, width, height, log]);
  // The lines are built anew only if the data or the size changes: a moving crosshair redraws a few elements.
  const lines = useMemo(() => plan && html`<${Lines} plan=${plan} series=${drawn} />`, [plan]);
  const index = at === null || !steps.length ? null : findNearest(steps, at);
  const step = steps[index ?? steps.length - 1];

  return html`<figure class="chart">
    <figcaption class="chart-head">
      <span class="chart-title">${title}</span>
      ${drawn.length === 1 && html`<${OneValue} t=${t} series=${drawn[0]} step=${step} unit=${unit}
        reading=${index !== null} />`}
      ${canLog && html`<label class="chart-log">
        <input type="checkbox" checked=${log} onChange=${(event) => setLog(event.currentTarget.checked)} />
        ${t("run.chart.log")}
      </label>`}
    </figcaption>
    ${drawn.length > 1 && html`<${Legend} t=${t} series=${drawn} step=${step} unit=${unit}
      reading=${index !== null} />`}
    <div class="chart-area" ref=${frame} style=${{height: `${height}px`}}>
      ${plan
        ? html`<svg class="chart-svg" width=${width} height=${height} aria-hidden="true"
              viewBox=${`0 0 ${width} ${height}`}>
              ${lines}
              ${index !== null && html`<${Crosshair} plan=${plan} series=${drawn} step=${step} />`}
            </svg>
            <${Reader} t=${t} title=${title} plan=${plan} steps=${steps} index=${index} setAt=${setAt}
              text=${describeStep(t, drawn, step, unit)} />
            <${Markers} t=${t} plan=${plan} width=${width} />`
        : html`<p class="chart-empty">${t("run.chart.empty")}</p>`}
    </div>
    <${ValueTable} t=${t} title=${title} series=${drawn} steps=${steps} />
  </figure>`;
}

// The width of an element, followed as it changes; a burst of changes becomes one redraw in the next frame.
function useWidth() {
  const frame = useRef(null);
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    const element = frame.current;
    let waiting = 0;
    const measure = () => setWidth(Math.floor(element.clientWidth));
    const observer = new ResizeObserver(() => {
      cancelAnimationFrame(waiting);
      waiting = requestAnimationFrame(measure);
    });
    observer.observe(element);
    measure();
    return () => {
      observer.disconnect();
      cancelAnimationFrame(waiting);
    };
  }, []);
  return [frame, width];
}

// The newest value while an element is on the screen, else the last one that was: what nobody sees is not drawn anew.
function useHeldOffScreen(frame, value, holds) {
  const [isSeen, setSeen] = useState(true);
  const held = useRef(value);
  useEffect(() => {
    const note = (entries) => setSeen(entries.at(-1).isIntersecting);
    const observer = new IntersectionObserver(note, {rootMargin: "100px"});
    observer.observe(frame.current);
    return () => observer.disconnect();
  }, []);
  if (isSeen || !holds) held.current = value;
  return held.current;
}

// Scales, ticks and the places of markers; null if there is nothing to draw.
function layOut(series, markers, steps, {width, height, log}) {
  const values = findExtent(series, 1, log);
  if (!values || width < 60) return null;
  const last = steps[steps.length - 1];
  const range = steps[0] === last ? [steps[0] - 1, last + 1] : [steps[0], last];
  const top = SPACE.top + (markers.length ? MARKER_LANE : 0);
  const box = {left: SPACE.left, right: width - SPACE.right, top, bottom: height - SPACE.bottom};
  const extent = padExtent(values, log);
  const x = buildScale(range, [box.left, box.right]);
  const y = buildScale(extent, [box.bottom, box.top], log);
  const rows = Math.max(2, Math.round((box.bottom - box.top) / 44));
  const columns = Math.max(2, Math.floor((box.right - box.left) / 68));
  const shown = markers.filter((marker) => Number.isFinite(marker.step)).map((marker) => ({
    ...marker, at: Math.min(Math.max(marker.step, range[0]), range[1]),
  }));
  return {
    box, x, y, log, range,
    xTicks: listTicks(range, columns, true),
    yTicks: log ? listLogTicks(extent, rows) : listTicks(extent, rows),
    groups: groupMarkers(shown, x, MARKER_DISTANCE),
  };
}
