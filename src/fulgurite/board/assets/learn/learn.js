// The guide: its chapters, each with what it answers.

import {html} from "../vendor/htm-preact.js";
import {Icon} from "../app/icons.js";

// Anchors of the guide; each has a title and a sentence among the texts.
const CHAPTERS = ["decide", "choose", "train", "diagnose", "change", "mistakes", "article", "reference"];

export function LearnScreen({t, lang}) {
  const guide = `/guide?lang=${lang}`;
  return html`<div class="stack-wide">
    <header class="screen-head">
      <h1>${t("learn.title")}</h1>
      <p>${t("learn.lead")}</p>
    </header>
    <p><a class="button primary" href=${guide} target="_blank" rel="noopener">
      <${Icon} name="external" size=${16} />${t("learn.open")}</a></p>
    <ul class="chapters">
      ${CHAPTERS.map((chapter) => html`<li key=${chapter} class="panel chapter">
        <h2><a href=${`${guide}#${chapter}`} target="_blank" rel="noopener">${t(`learn.${chapter}`)}</a></h2>
        <p class="soft">${t(`learn.${chapter}_about`)}</p>
      </li>`)}
    </ul>
  </div>`;
}
