// The lengths of the examples as bars, with the length at which they are cut.

import {html} from "../vendor/htm-preact.js";
import {formatNumber} from "../app/format.js";
import {t} from "../app/i18n.js";

// `lengths`: {bins: [[top, count], ...], p99, cut, longer}; a bin holds what is longer than the top before it. Every
// bar
// has the same width, because the bins of the server grow with the length.
export function Histogram({lengths, height = 120}) {
  const {cut, longer, p99} = lengths;
  const bars = listBars(lengths.bins);
  const most = Math.max(...bars.map(({count}) => count), 1);
  const wide = 100 / bars.length;
  const limit = cut ? placeLength(bars, cut) : null;
  return html`<figure class="histogram">
    <figcaption class="small soft">${t("plan.lengths_caption")}</figcaption>
    <svg class="plot" width="100%" height=${height + 18} role="img" aria-label=${describe(lengths)}>
      ${bars.map((bar, index) => html`<${Bar} key=${bar.end} bar=${bar} x=${index * wide} wide=${wide} most=${most}
        height=${height}
        beyond=${Boolean(cut) && bar.start >= cut} />`)}
      <line x1="0" x2="100%" y1=${height + 0.5} y2=${height + 0.5} class="axis" />
      ${listLabels(bars).map((index) => html`<text key=${index} class="range-label" x=${`${(index + 1) * wide}%`}
        y=${height + 14}
        text-anchor="end">${formatNumber(bars[index].end)}</text>`)}
      ${limit === null ? null : html`<line x1=${`${limit * wide}%`} x2=${`${limit * wide}%`} y1="0" y2=${height}
        class="cut" />`}
    </svg>
    <p class="small soft">${[
      p99 ? t("plan.lengths_p99", {count: formatNumber(p99)}) : "",
      cut ? t("plan.lengths_cut", {cut: formatNumber(cut), longer: formatNumber(longer ?? 0)}) : "",
    ].filter(Boolean).join(" ")}</p>
  </figure>`;
}

function listBars(bins) {
  return bins.map(([end, count], index) => ({start: index ? bins[index - 1][0] : 0, end, count}));
}

// Where a length lies among bars of the same width, in bars.
function placeLength(bars, tokens) {
  const index = bars.findIndex(({end}) => tokens <= end);
  if (index < 0) return bars.length;
  const {start, end} = bars[index];
  return index + (tokens - start) / (end - start);
}

// At most eight labels have room.
function listLabels(bars) {
  const step = Math.ceil(bars.length / 8);
  return bars.map((_, index) => index).filter((index) => (bars.length - 1 - index) % step === 0);
}

function Bar({bar, x, wide, most, height, beyond}) {
  // A bin with a single example among thousands is still seen.
  const tall = bar.count ? Math.max(2, (height * bar.count) / most) : 0;
  const range = {from: formatNumber(bar.start + 1), to: formatNumber(bar.end), count: formatNumber(bar.count)};
  return html`<rect x=${`${x}%`} width=${`${wide}%`} y=${height - tall} height=${tall}
    class=${beyond ? "bar beyond" : "bar"}>
    <title>${t("plan.lengths_bin", range)}</title></rect>`;
}

function describe({bins, p99, cut, longer}) {
  const facts = {top: formatNumber(bins[bins.length - 1][0]), p99: formatNumber(p99)};
  const ends = t("plan.lengths_alt", facts);
  return cut ? `${ends} ${t("plan.lengths_cut", {cut: formatNumber(cut), longer: formatNumber(longer ?? 0)})}` : ends;
}
