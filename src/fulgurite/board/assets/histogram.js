// The lengths of the examples as bars, with the length at which they are cut.

import {html} from "./vendor/htm-preact.js";
import {formatNumber} from "./format.js";
import {t} from "./i18n.js";

// `lengths`: {bins: [[top, count], ...], p99, cut, longer}; a bin holds what is longer than the top before it.
export function Histogram({lengths, height = 120}) {
  const {bins, cut, longer, p99} = lengths;
  const most = Math.max(...bins.map(([, count]) => count), 1);
  const top = Math.max(bins[bins.length - 1][0], cut ?? 0);
  const place = (tokens) => `${(100 * tokens) / top}%`;
  let before = 0;
  const bars = bins.map(([end, count]) => {
    const start = before;
    before = end;
    return {start, end, count};
  });
  return html`<figure class="histogram">
    <figcaption class="small soft">${t("plan.lengths_caption")}</figcaption>
    <svg class="plot" width="100%" height=${height} role="img" aria-label=${describe(lengths)}>
      ${bars.map((bar) => html`<${Bar} key=${bar.end} bar=${bar} place=${place} most=${most} height=${height - 1}
        beyond=${cut !== undefined && cut !== null && bar.start >= cut} />`)}
      <line x1="0" x2="100%" y1=${height - 0.5} y2=${height - 0.5} class="axis" />
      ${cut ? html`<line x1=${place(cut)} x2=${place(cut)} y1="0" y2=${height} class="cut" />` : null}
    </svg>
    <div class="ends small soft"><span>0</span><span>${t("plan.tokens_axis", {count: formatNumber(top)})}</span></div>
    <p class="small soft">${[
      p99 ? t("plan.lengths_p99", {count: formatNumber(p99)}) : "",
      cut ? t("plan.lengths_cut", {cut: formatNumber(cut), longer: formatNumber(longer ?? 0)}) : "",
    ].filter(Boolean).join(" ")}</p>
  </figure>`;
}

function Bar({bar, place, most, height, beyond}) {
  // A bin with a single example among thousands is still seen.
  const tall = bar.count ? Math.max(2, (height * bar.count) / most) : 0;
  const range = {from: formatNumber(bar.start + 1), to: formatNumber(bar.end), count: formatNumber(bar.count)};
  return html`<rect x=${place(bar.start)} width=${place(bar.end - bar.start)} y=${height - tall} height=${tall}
    class=${beyond ? "bar beyond" : "bar"}><title>${t("plan.lengths_bin", range)}</title></rect>`;
}

function describe({bins, p99, cut, longer}) {
  const facts = {top: formatNumber(bins[bins.length - 1][0]), p99: formatNumber(p99)};
  const ends = t("plan.lengths_alt", facts);
  return cut ? `${ends} ${t("plan.lengths_cut", {cut: formatNumber(cut), longer: formatNumber(longer ?? 0)})}` : ends;
}
