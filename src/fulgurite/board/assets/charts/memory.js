// The memory of each phase of the run by part, as a stacked bar against what is free.

import {html} from "../vendor/htm-preact.js";
import {formatBytes, formatPercent} from "../app/format.js";
import {has, t} from "../app/i18n.js";
import {Chip} from "../app/ui.js";

const PARTS = ["weights", "gradients", "optimizer", "activations", "logits", "other"];
const LEVELS = {ok: "ok", tight: "warning", over: "error"};

export function Memory({memory}) {
  const phases = Object.entries(memory.phases);
  const width = 1.04 * Math.max(memory.free, memory.peak, 1);
  const parts = listParts(phases);
  const facts = {peak: formatBytes(memory.peak), free: formatBytes(memory.free)};
  return html`<div class="stack">
    <p class="line"><${Chip} level=${LEVELS[memory.level]}>${t(`plan.level_${memory.level}`)}<//>
      <span>${t("plan.peak_of_free", facts)}</span>
      <span class="soft">${formatPercent(memory.peak / memory.free)}</span></p>
    <div class="memory">${phases.map(([name, phase]) => html`<${Phase} key=${name} name=${nameOf(memory, name)}
      phase=${phase}
      parts=${parts} width=${width} free=${memory.free} labels=${memory} />`)}</div>
    <ul class="legend line small">${parts.map((part, index) => html`<li key=${part} class="legend-entry">
      <svg width="10" height="10" aria-hidden="true"><rect width="10" height="10" rx="2" class=${`tone-${index + 1}`} />
        </svg>
      ${nameOf(memory, part)}</li>`)}
      <li class="legend-entry"><svg width="10" height="10" aria-hidden="true"><line x1="5" x2="5" y1="0" y2="10"
        class="free-line" /></svg>
        ${t("plan.free_memory")}</li></ul>
    <details><summary class="small">${t("plan.memory_numbers")}</summary>
      <${Numbers} memory=${memory} phases=${phases} parts=${parts} /></details>
  </div>`;
}

function nameOf(memory, name) {
  if (memory.labels?.[name]) return memory.labels[name];
  return has(`plan.part_${name}`) ? t(`plan.part_${name}`) : name;
}

// The known parts in their order, then whatever else the answer has; a part that is nowhere more than nothing is
// left out.
function listParts(phases) {
  const all = new Set(PARTS);
  for (const [, phase] of phases) for (const name of Object.keys(phase)) if (name !== "total") all.add(name);
  return [...all].filter((name) => phases.some(([, phase]) => phase[name] > 0));
}

function Phase({name, phase, parts, width, free, labels}) {
  let at = 0;
  const pieces = parts.map((part, index) => {
    const start = at;
    at += phase[part] ?? 0;
    return {part, start, size: phase[part] ?? 0, tone: index + 1};
  });
  const share = (bytes) => `${(100 * bytes) / width}%`;
  const over = phase.total > free;
  const text = pieces.filter((piece) => piece.size).map((piece) => `${nameOf(labels,
    piece.part)} ${formatBytes(piece.size)}`);
  return html`<div class="phase">
    <div class="phase-head small"><span>${name}</span><span
      class=${over ? "over" : "soft"}>${formatBytes(phase.total)}</span></div>
    <svg class="plot" width="100%" height="22" role="img" aria-label=${`${name}: ${text.join(", ")}`}>
      <rect x="0" width=${share(free)} y="3" height="16" class="free-area" rx="3" />
      ${pieces.map((piece) => html`<rect key=${piece.part} x=${share(piece.start)} width=${share(piece.size)} y="3"
        height="16"
        class=${`tone-${piece.tone}`}><title>${`${nameOf(labels, piece.part)}: ${formatBytes(piece.size)}`}</title>
          </rect>`)}
      <line x1=${share(free)} x2=${share(free)} y1="0" y2="22" class="free-line" />
    </svg>
  </div>`;
}

function Numbers({memory, phases, parts}) {
  return html`<div class="wide-table" tabindex="0" role="region" aria-label=${t("plan.memory_numbers")}><table
    class="numbers">
    <thead><tr><th scope="col">${t("plan.memory_part")}</th>
      ${phases.map(([name]) => html`<th key=${name} scope="col">${nameOf(memory, name)}</th>`)}</tr></thead>
    <tbody>
      ${parts.map((part) => html`<tr key=${part}><th scope="row">${nameOf(memory, part)}</th>
        ${phases.map(([name, phase]) => html`<td
          key=${name}>${phase[part] ? formatBytes(phase[part]) : "–"}</td>`)}</tr>`)}
      <tr><th scope="row">${t("plan.memory_total")}</th>
        ${phases.map(([name, phase]) => html`<td key=${name}><strong>${formatBytes(phase.total)}</strong></td>`)}</tr>
    </tbody></table></div>`;
}
