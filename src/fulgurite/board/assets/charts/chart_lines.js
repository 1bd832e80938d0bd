// What a chart draws: grid, ticks, lines, crosshair, and the legend that reads the values.

import {html} from "../vendor/htm-preact.js";
import {buildPath, formatTick, isDrawable, readValue} from "./chart_scale.js";
import {NONE, formatMetric, formatStep} from "../app/numbers.js";

const MANY = 150;

export function Lines({plan, series}) {
  const {box, x, y, log} = plan;
  // Strong lines are drawn after faint ones, so that they lie above them.
  const ordered = [...series].sort((a, b) => Number(Boolean(b.faint)) - Number(Boolean(a.faint)));
  return html`<g>
    <${Grid} plan=${plan} format=${series[0].format} />
    ${plan.groups.map(({place, step}) => html`<line key=${step} class="chart-pin" x1=${place} x2=${place}
      y1=${box.top - 2} y2=${box.bottom} />`)}
    ${ordered.map((each) => html`<path key=${each.id} data-series=${each.id} class=${nameLine(each)}
      d=${buildPath(each.points, x, y, log)} />`)}
    ${ordered.filter(hasDots).map((each) => html`<${Dots} key=${each.id} plan=${plan} series=${each} />`)}
  </g>`;
}

function Grid({plan, format}) {
  const {box, x, y, xTicks, yTicks} = plan;
  return html`<g>
    ${yTicks.map((tick) => html`<g key=${tick}>
      <line class="chart-grid" x1=${box.left} x2=${box.right} y1=${y(tick)} y2=${y(tick)} />
      <text class="chart-tick" x=${box.left - 8} y=${y(tick)} dy="0.32em" text-anchor="end">
        ${format ? format(tick) : formatTick(tick, yTicks)}
      </text>
    </g>`)}
    <line class="chart-axis" x1=${box.left} x2=${box.right} y1=${box.bottom} y2=${box.bottom} />
    ${xTicks.map((tick) => html`<g key=${tick}>
      <line class="chart-axis" x1=${x(tick)} x2=${x(tick)} y1=${box.bottom} y2=${box.bottom + 4} />
      <text class="chart-tick" x=${x(tick)} y=${box.bottom + 17} text-anchor="middle">${formatStep(tick)}</text>
    </g>`)}
  </g>`;
}

// Few values are shown as dots too: one value alone has no line.
function hasDots({points, dots, faint}) {
  return points.length === 1 || (dots && points.length <= 60) || (!faint && points.length <= 3);
}

function Dots({plan, series}) {
  const shown = series.points.filter(([, value]) => isDrawable(value, plan.log));
  return html`<g>
    ${shown.map(([step, value]) => html`<circle key=${step} class=${`chart-dot series-${series.tone}`} r="2.6"
      cx=${plan.x(step)} cy=${plan.y(value)} />`)}
  </g>`;
}

export function Crosshair({plan, series, step}) {
  const {box, x, y, log} = plan;
  return html`<g>
    <line class="chart-cross" x1=${x(step)} x2=${x(step)} y1=${box.top} y2=${box.bottom} />
    ${series.map((each) => {
      const point = readValue(each.points, step);
      if (!point || !isDrawable(point[1], log)) return null;
      return html`<circle key=${each.id} class=${`chart-at series-${each.tone}`} r="3.5" cx=${x(point[0])}
        cy=${y(point[1])} />`;
    })}
  </g>`;
}

// The labels of the lines, with their values at the crosshair or at the end.
export function Legend({t, series, step, unit, reading}) {
  return html`<ul class="chart-legend">
    ${series.map((each) => html`<li key=${each.id}>
      <svg class="chart-swatch" width="18" height="10" viewBox="0 0 18 10" aria-hidden="true">
        <path class=${nameLine(each)} d="M1 5L17 5" />
      </svg>
      <span class="chart-label">${each.label}</span>
      <b>${showValue(each, step)}</b>
    </li>`)}
    <li class=${`chart-where${reading ? " is-reading" : ""}`}>${t(unit, {step: formatStep(step)})}</li>
  </ul>`;
}

// A single line needs no legend: the title names it.
export function OneValue({t, series, step, unit, reading}) {
  return html`<span class="chart-one">
    ${reading && t(unit, {step: formatStep(step)})}<b>${showValue(series, step)}</b>
  </span>`;
}

// The legend in one sentence, for a screen reader.
export function describeStep(t, series, step, unit) {
  const values = series.map((each) => `${each.label} ${showValue(each, step)}`);
  return [t(unit, {step: formatStep(step)}), ...values].join(", ");
}

function showValue({points, format = formatMetric}, step) {
  const point = readValue(points, step);
  return point ? format(point[1]) : NONE;
}

// Many values that jump are drawn thin: a thick line would be a bar of colour.
function nameLine({tone, faint, noisy, points}) {
  const weight = faint ? " is-faint" : noisy && points.length > MANY ? " is-thin" : "";
  return `chart-line series-${tone}${weight}`;
}
