// The learning rate of every step, drawn with this rate and this warmup.

import {html, useMemo} from "../vendor/htm-preact.js";
import {LineChart} from "./chart.js";
import {formatNumber, formatRate} from "../app/format.js";

export function Schedule({t, schedule, steps}) {
  const series = useMemo(() => [{
    id: "lr", label: t("plan.fact_rate"), tone: 1, points: schedule.points, format: formatRate,
  }], [schedule]);
  const facts = {lr: formatRate(schedule.lr), steps: formatNumber(steps), warmup: formatNumber(schedule.warmup ?? 0)};
  return html`<div class="stack">
    <${LineChart} t=${t} title=${t("plan.schedule_title")} series=${series} height=${170} />
    <p class="small soft">${t(schedule.warmup ? "plan.schedule_warmup" : "plan.schedule_plain", facts)}</p>
  </div>`;
}
