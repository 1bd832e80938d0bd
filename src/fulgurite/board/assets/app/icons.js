// Line icons of 20 by 20 units, drawn in the colour of the text beside them.

import {html} from "../vendor/htm-preact.js";

const PATHS = {
  start: "M10 2.5 4.5 11.5h5L8.5 17.500l7-10h-5z",
  parameters: "M3 6h7M14 6h3M3 14h3M10 14h7M12 4v4M8 12v4",
  plan: "M3.5 16.500v-13M3.5 16.500h13M6.5 12.5l3-4 3 2.5 4-6",
  run: "M6.5 4v12l9-6z",
  runs: "M3.5 5h13M3.5 10h13M3.5 15h13",
  learn:
    "M10 5.500C8 4 5.5 3.8 3 4.2v11.3c2.5-.4 5-.2 7 1.3 2-1.5 4.5-1.7 7-1.3V4.2c-2.5-.4-5-.2-7 1.3zM10 5.500v11.3",
  copy: "M7 7V3.500h9.500V13H13M3.5 7H13v9.500H3.500z",
  check: "M4 10.5 8.200 15 16 5.5",
  undo: "M7 4 3.5 7.5 7 11M3.5 7.500h8a4.5 4.5 0 0 1 0 9H8",
  close: "M5 5l10 10M15 5 5 15",
  open: "M5 7.5 10 12.5l5-5",
  folder: "M2.5 5.500h5l1.5 2h8.500v8.500h-15z",
  file: "M5 2.5h6.500L15.5 6.500v11H5zM11 2.5V7h4.5",
  model: "M10 2.5 16.5 6v8L10 17.5 3.5 14V6zM3.5 6 10 9.5 16.5 6M10 9.500v8",
  up: "M10 16V4M5 9l5-5 5 5",
  search: "M8.5 14a5.5 5.5 0 1 0 0-11 5.5 5.5 0 0 0 0 11zM12.5 12.5 17 17",
  sun:
    "M10 13.5a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM10 1.5v2M10 16.5v2M1.5 10h2M16.5 10h2M4 4l1.4 1.4" +
    "M14.6 14.6 16 16M16 4l-1.4 1.4M5.4 14.6 4 16",
  moon: "M16.5 12A7 7 0 0 1 8 3.500a7 7 0 1 0 8.5 8.500z",
  system: "M2.5 4h15v10h-15zM7 17h6M10 14v3",
  warn: "M10 3 18 16.500H2zM10 8v4M10 14.2v.3",
  error: "M10 2.5a7.5 7.5 0 1 0 0 15 7.5 7.5 0 0 0 0-15zM10 6v5M10 13.700v.3",
  info: "M10 2.5a7.5 7.5 0 1 0 0 15 7.5 7.5 0 0 0 0-15zM10 9v5M10 6v.3",
  reset: "M4 4v4h4M4.300 8A6.5 6.5 0 1 1 3.5 11",
  stop: "M6 6h8v8H6z",
  chat: "M3.5 4h13v9.500h-7l-3.5 3v-3h-2.5z",
  export: "M10 12V3.500M6.5 7 10 3.500 13.5 7M4 11v5.500h12V11",
  external: "M8 4H4v12h12v-4M11 3.500h5.500V9M16.5 3.5 9 11",
};

export function Icon({name, size = 20}) {
  return html`<svg class="icon" width=${size} height=${size} viewBox="0 0 20 20" aria-hidden="true" focusable="false">
    <path d=${PATHS[name] ?? ""} />
  </svg>`;
}
