// The numbers of a chart as a table: its text alternative. Built only while it is open.

import {html, useState} from "../vendor/htm-preact.js";
import {readValue, spread} from "./chart_scale.js";
import {formatStep, formatMetric} from "../app/numbers.js";

const ROWS = 60;

export function ValueTable({t, title, series, steps, unit}) {
  const [open, setOpen] = useState(false);
  if (!steps.length) return null;
  return html`<details class="chart-values" onToggle=${(event) => setOpen(event.currentTarget.open)}>
    <summary>${t("run.chart.table")}</summary>
    ${open && html`<div class="scroll" tabindex="0" role="region" aria-label=${title}>
      ${steps.length > ROWS && html`<p class="soft">
        ${t("run.chart.rows", {shown: ROWS, total: formatStep(steps.length)})}
      </p>`}
      <table>
        <thead><tr>
          <th scope="col">${t("run.chart.steps")}</th>
          ${series.map(({id, label}) => html`<th key=${id} scope="col">${label}</th>`)}
        </tr></thead>
        <tbody>${spread(steps, ROWS).map((step) => html`<tr key=${step}>
          <th scope="row">${formatStep(step)}</th>
          ${series.map((each) => html`<td key=${each.id}>${show(each, step)}</td>`)}
        </tr>`)}</tbody>
      </table>
    </div>`}
  </details>`;
}

// The value at exactly this step; empty if the series has none there.
function show({points, format = formatMetric}, step) {
  const point = readValue(points, step);
  return point && point[0] === step ? format(point[1]) : "";
}
