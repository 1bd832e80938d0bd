// The page: navigation, language and colours, the screens, and the line about a lost connection.

import {html, render, useEffect, useState} from "../vendor/htm-preact.js";
import {get} from "./api.js";
import {CommandBar} from "../plan/commandbar.js";
import {useConnection} from "./hooks.js";
import {LANGUAGES, loadLanguage, readLanguage, t, useChosenLanguage} from "./i18n.js";
import {Icon} from "./icons.js";
import {SCREENS, go, makeHash, useRoute} from "./router.js";
import {read, readWord, writeWord} from "./storage.js";
import {Announcer, Boundary, ErrorNotice, IconButton, Notice, Spinner} from "./ui.js";

// Screens are loaded when they are first opened.
const LOADERS = {
  start: async () => (await import("../start/start.js")).StartScreen,
  parameters: async () => (await import("../parameters/parameters.js")).ParametersScreen,
  plan: async () => (await import("../plan/plan.js")).PlanScreen,
  launch: async () => (await import("../run/launch.js")).LaunchScreen,
  run: async () => (await import("../run/run.js")).RunScreen,
  runs: async () => (await import("../all_runs/runs.js")).RunsScreen,
  learn: async () => (await import("../learn/learn.js")).LearnScreen,
};
const WITH_COMMAND = ["start", "parameters", "plan"];
const loaded = {};

function useScreen(name) {
  const [state, setState] = useState({name: "", Screen: null, error: null});
  useEffect(() => {
    let current = true;
    const show = (Screen, error) => current && setState({name, Screen, error});
    if (loaded[name]) show(loaded[name], null);
    else LOADERS[name]().then((Screen) => show((loaded[name] = Screen), null), (error) => show(null, error));
    return () => {
      current = false;
    };
  }, [name]);
  return state.name === name ? state : {name, Screen: loaded[name] ?? null, error: null};
}

// #/run without an id: the run of last time, or else the newest.
function useLastRun(route) {
  const [none, setNone] = useState(false);
  const lost = route.screen === "run" && route.id === "";
  useEffect(() => {
    if (!lost) return;
    setNone(false);
    get("/api/runs").then(({runs}) => {
      const held = runs.find((run) => run.id === read("run")) ?? runs[0];
      if (held) go("run", held.id, {replace: true});
      else setNone(true);
    }, () => setNone(true));
  }, [lost]);
  return lost && none;
}

function Navigation({screen}) {
  const current = screen === "launch" ? "run" : screen;
  return html`<nav class="nav" aria-label=${t("shell.navigation")}>
    ${SCREENS.map((name) => html`<a key=${name} href=${makeHash(name)} class="nav-link"
        aria-current=${name === current ? "page" : null}>
      <${Icon} name=${name} /><span>${t(`shell.nav_${name}`)}</span>
    </a>`)}
  </nav>`;
}

const THEMES = ["", "light", "dark"];
const THEME_ICONS = {"": "system", light: "sun", dark: "moon"};

function ThemeSwitch() {
  const [theme, setTheme] = useState(() => readWord("theme"));
  const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  const turn = () => {
    writeWord("theme", next);
    if (next) document.documentElement.dataset.theme = next;
    else delete document.documentElement.dataset.theme;
    setTheme(next);
  };
  const label = t("shell.theme_now", {theme: t(`shell.theme_${theme || "system"}`)});
  return html`<${IconButton} icon=${THEME_ICONS[theme]} label=${label} onClick=${turn} class="theme-switch" />`;
}

function LanguageSwitch({lang, onChange}) {
  return html`<div class="language" role="group" aria-label=${t("shell.language")}>
    ${Object.entries(LANGUAGES).map(([code, name]) => html`<button key=${code} type="button" lang=${code}
      class="language-button" aria-pressed=${code === lang ? "true" : "false"}
        onClick=${() => onChange(code)}>${name}</button>`)}
  </div>`;
}

function ConnectionLine() {
  const state = useConnection();
  if (state === "ok") return null;
  return html`<div class="connection" role="alert">${t(state === "lost" ? "shell.connection_lost"
    : "shell.connection_closed")}</div>`;
}

function ScreenOf({route, lang}) {
  const {Screen, error} = useScreen(route.screen);
  const noRun = useLastRun(route);
  useEffect(() => {
    window.scrollTo(0, 0);
  }, [route.screen, route.id]);
  if (noRun) {
    return html`<${Notice} title=${t("shell.no_run")}><p><a href=${makeHash("start")}>${t("shell.no_run_start")}</a></p>
      <//>`;
  }
  if (error) return html`<${ErrorNotice} error=${error} title=${t("shell.screen_failed")} />`;
  if (!Screen || (route.screen === "run" && !route.id)) return html`<${Spinner} />`;
  return html`<${Screen} route=${route} t=${t} lang=${lang} />`;
}

function App() {
  const route = useRoute();
  const [lang, setLang] = useState("");
  const [wanted, setWanted] = useState(readLanguage);
  useEffect(() => {
    let current = true;
    const load = () => loadLanguage(wanted).then(() => current && setLang(wanted), () => current && setTimeout(load,
      1000));
    load();
    return () => {
      current = false;
    };
  }, [wanted]);
  const change = (code) => {
    useChosenLanguage(code);
    setWanted(code);
  };
  useEffect(() => {
    if (lang) document.title = `${t(`shell.nav_${route.screen}`)} · ${t("shell.title")}`;
  }, [lang, route.screen]);
  if (!lang) return null;
  return html`<div class="shell" key=${lang}>
    <a class="skip" href="#main" onClick=${skip}>${t("shell.skip")}</a>
    <header class="top">
      <a class="brand" href=${makeHash("start")}><img src="/assets/icon.svg" width="24" height="24" alt="" />
        <span>Fulgurite</span></a>
      <${Navigation} screen=${route.screen} />
      <div class="switches"><${LanguageSwitch} lang=${lang} onChange=${change} /><${ThemeSwitch} /></div>
    </header>
    <main id="main" tabindex="-1" class=${`main screen-${route.screen}`}>
      <${ConnectionLine} />
      <${Boundary} key=${`${route.screen} ${route.id}`}><${ScreenOf} route=${route} lang=${lang} /><//>
    </main>
    ${WITH_COMMAND.includes(route.screen) ? html`<${CommandBar} lang=${lang} />` : null}
    <${Announcer} />
  </div>`;
}

// A hash link would be taken for a route.
function skip(event) {
  event.preventDefault();
  document.getElementById("main").focus();
}

render(html`<${App} />`, document.getElementById("app"));
