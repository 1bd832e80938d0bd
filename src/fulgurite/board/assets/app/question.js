// A numbered question of the first screen.

import {html} from "../vendor/htm-preact.js";

export function Question({number, title, children}) {
  return html`<section class="panel question" aria-labelledby=${`question-${number}`}>
    <h2 id=${`question-${number}`}><span class="question-number" aria-hidden="true">${number}</span>${title}</h2>
    <div class="stack">${children}</div>
  </section>`;
}
