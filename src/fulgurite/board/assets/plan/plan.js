// The third screen: everything that is known about the run before it starts, computed again at each change.

import {html, useEffect, useRef} from "../vendor/htm-preact.js";
import {FindingList} from "./findings.js";
import {formatBytes, formatCount, formatNumber, formatRate} from "../app/format.js";
import {Histogram} from "../charts/histogram.js";
import {Memory} from "../charts/memory.js";
import {QuickFields} from "../parameters/quick_fields.js";
import {Schedule} from "../charts/schedule.js";
import {PlanError} from "./plan_error.js";
import {usePlan} from "./planner.js";
import {Words} from "../app/words.js";
import {Notice, Spinner, announce} from "../app/ui.js";

export function PlanScreen({t, lang}) {
  const planned = usePlan(lang);
  const {plan, error, pending, preparing} = planned;
  useAnnouncedSentence(plan?.sentence ?? "");
  return html`
    <header class="screen-head"><h1>${t("plan.title")}</h1>
      <span class="line" aria-hidden="true">${pending && plan
        ? html`<span class="busy"><span class="spinner"></span>${t("plan.computing")}</span>` : null}</span>
    </header>
    <${PlanError} t=${t} planned=${planned} />
    ${pending && (preparing || !plan) ? html`<${Spinner} label=${preparing || t("plan.first")} />` : null}
    ${plan ? html`
      <section class=${`panel summary ${pending || error ? "stale" : ""}`} aria-label=${t("plan.summary")}>
        <p class="outcome-sentence">${plan.sentence}</p>
        <${Facts} t=${t} plan=${plan} />
      </section>
      <${QuickFields} t=${t} plan=${plan} planned=${planned} />
      <section class="panel" aria-labelledby="plan-findings"><h2 id="plan-findings">${t("plan.findings")}</h2>
        <div class=${error ? "stale" : ""}><${FindingList} findings=${plan.findings} /></div></section>
      <div class=${`plan-grid ${pending || error ? "stale" : ""}`}>
        ${plan.memory ? html`<section class="panel" aria-labelledby="plan-memory"><h2
          id="plan-memory">${t("plan.memory")}</h2>
          <${Memory} memory=${plan.memory} /></section>` : null}
        ${plan.schedule ? html`<section class="panel" aria-labelledby="plan-schedule"><h2
          id="plan-schedule">${t("plan.schedule")}</h2>
          <${Schedule} t=${t} schedule=${plan.schedule} steps=${plan.steps} /></section>` : null}
        ${plan.lengths?.bins?.length ? html`<section class="panel" aria-labelledby="plan-lengths"><h2
          id="plan-lengths">${t("plan.lengths")}</h2>
          <${Histogram} lengths=${plan.lengths} height=${140} /></section>` : null}
      </div>
      <${Lost} t=${t} lost=${plan.lost ?? []} />
      <${Words} t=${t} plan=${plan} />` : null}`;
}

// A screen reader hears the new sentence once typing rests.
function useAnnouncedSentence(sentence) {
  const before = useRef("");
  useEffect(() => {
    const timer = setTimeout(() => {
      if (before.current && sentence !== before.current) announce(sentence);
      before.current = sentence;
    }, 800);
    return () => clearTimeout(timer);
  }, [sentence]);
}

function Facts({t, plan}) {
  const facts = [
    ["steps", formatNumber(plan.steps), plan.warmup_steps
      ? t("plan.of_them_warmup", {count: formatNumber(plan.warmup_steps)}) : ""],
    ["time", plan.seconds === null || plan.seconds === undefined ? t("plan.unknown")
      : t("plan.about", {time: plan.duration}),
    plan.timed_by ? t(`plan.timed_by_${plan.timed_by}`) : ""],
    ["rows", formatNumber(plan.rows), plan.validation_rows
      ? t("plan.validation_rows", {count: formatNumber(plan.validation_rows)}) : ""],
    ["tokens", formatCount(plan.tokens), plan.tokens_per_step
      ? t("plan.per_step", {count: formatNumber(plan.tokens_per_step)}) : ""],
    ["trainable", formatCount(plan.trainable), t("plan.of_parameters", {count: formatCount(plan.parameters_total)})],
    ["rate", plan.schedule ? formatRate(plan.schedule.lr) : "–", ""],
  ];
  if (plan.disk?.total) facts.push(["disk", formatBytes(plan.disk.total), plan.disk.free
    ? t("plan.disk_free", {free: formatBytes(plan.disk.free)}) : ""]);
  return html`<dl class="numbers-row">${facts.map(([name, value, more]) => html`<div key=${name}>
    <dt>${t(`plan.fact_${name}`)}</dt><dd>${value}${more ? html`<span class="more">${more}</span>` : null}</dd>
      </div>`)}</dl>`;
}

function Lost({t, lost}) {
  if (!lost.length) return null;
  return html`<${Notice} title=${t("plan.lost")}><ul
    class="stack">${lost.map((sentence) => html`<li key=${sentence}>${sentence}</li>`)}</ul><//>`;
}
