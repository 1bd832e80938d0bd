"""Every screen for everybody: names and roles, the keyboard, contrast, and three widths without sideways scroll."""

from __future__ import annotations

from typing import Any

import pytest
from tests.board.browser.conftest import OpenPage
from tests.board.browser.drafts import open_with_draft
from tests.board.browser.watched_page import WatchedPage

pytestmark = pytest.mark.browser

SCREENS = ("start", "parameters", "plan", "run", "runs", "learn")
WIDTHS = (360, 768, 1280)
NO_ROLE = ("generic", "none", "presentation", "")
TEXT, GRAPHICS = 4.5, 3.0
"""The contrast of text and of lines that WCAG 2 asks for at level AA."""
TEXTS_ON = {
    "ink": ("paper", "card", "raised", "sunken"), "soft": ("paper", "card", "raised", "sunken"),
    "accent": ("paper", "card", "sunken", "accent-soft"), "accent-ink": ("accent",),
    "green": ("card", "green-soft"), "amber": ("card", "amber-soft"), "red": ("card", "red-soft"), "paper": ("ink",),
}
"""The tokens for text, and the backgrounds that it has."""
LINES = ("series-1", "series-2", "series-3", "series-4", "series-5", "series-6", "line-strong", "accent")
READ_COLOURS = """(names) => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const read = (name) => {
    // a new element for each: the colour of an old one would change by a transition
    const probe = document.createElement('span');
    probe.style.setProperty('color', `var(--${name})`);
    document.body.append(probe);
    canvas.fillStyle = getComputedStyle(probe).color;
    canvas.fillRect(0, 0, 1, 1);
    probe.remove();
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  return Object.fromEntries(names.map((name) => [name, read(name)]));
}"""
READ_FOCUS = """() => {
  const node = document.activeElement;
  if (!node || node === document.body) return null;
  const marked = [node, node.parentElement, node.parentElement?.parentElement].some((each) =>
    each && getComputedStyle(each).outlineStyle !== 'none' && parseFloat(getComputedStyle(each).outlineWidth) > 0);
  window.__seen ??= new Map();
  if (!window.__seen.has(node)) window.__seen.set(node, window.__seen.size);
  return {id: window.__seen.get(node), marked, what: node.outerHTML.slice(0, 120)};
}"""
COUNT_STOPS = """() => {
  const all = [...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex="0"]')];
  const shown = all.filter((node) => !node.disabled && node.tabIndex >= 0 && node.checkVisibility());
  const radios = new Set(shown.filter((node) => node.type === 'radio').map((node) => node.name));
  return shown.filter((node) => node.type !== 'radio').length + radios.size;
}"""


def show(watched: WatchedPage, screen: str) -> None:
    """Goes to a screen and waits until it has come to rest."""
    if screen == "run":
        run = next(run for run in watched.ask("/api/runs")["runs"] if run["name"] == "full")
        watched.go(f"run/{run['id']}")
        watched.page.locator(".chart-reader").first.wait_for()
    else:
        watched.go(screen)
        watched.page.locator(f".screen-{screen} h1").wait_for()
    watched.wait_until(lambda: watched.page.locator("main .spinner").count() == 0, seconds=60, what=screen)


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_no_screen_scrolls_sideways_at_any_width(open_page: OpenPage, lang: str) -> None:
    watched = open_with_draft(open_page, "learn", lang=lang)
    for screen in SCREENS:
        show(watched, screen)
        for width in WIDTHS:
            watched.resize(width)
            assert watched.find_overflow() == "", (screen, width)
            # buttons beside a title must not leave it a column of single letters
            title = watched.page.locator("main h1").first.bounding_box()
            assert title is not None
            assert title["height"] < 90, (screen, width)
    watched.assert_clean()


@pytest.mark.parametrize("screen", SCREENS)
def test_each_control_has_a_name_is_reached_by_tab_and_shows_its_focus(open_page: OpenPage, screen: str) -> None:
    watched = open_with_draft(open_page, "learn")
    show(watched, screen)
    page = watched.page
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    focusable = [node for node in nodes if not node["ignored"] and is_focusable(node)]
    assert len(focusable) > 8
    nameless = [node for node in focusable if not read_value(node, "name") or read_value(node, "role") in NO_ROLE]
    assert [describe(session, node) for node in nameless] == []

    page.evaluate("document.activeElement?.blur()")
    expected = page.evaluate(COUNT_STOPS)
    seen: dict[int, dict[str, Any]] = {}
    for _ in range(expected + 12):
        page.keyboard.press("Tab")
        focus = page.evaluate(READ_FOCUS)
        if focus is None or focus["id"] in seen:
            break
        seen[focus["id"]] = focus
    assert [focus["what"] for focus in seen.values() if not focus["marked"]] == []
    assert len(seen) >= expected


def is_focusable(node: dict[str, Any]) -> bool:
    named = {item["name"]: item["value"].get("value") for item in node.get("properties", [])}
    return bool(named.get("focusable")) and read_value(node, "role") not in ("RootWebArea", "main")


def read_value(node: dict[str, Any], name: str) -> str:
    return str(node.get(name, {}).get("value", "")).strip()


def describe(session: Any, node: dict[str, Any]) -> str:
    """Returns the beginning of the HTML of a node of the accessibility tree."""
    found = session.send("DOM.getOuterHTML", {"backendNodeId": node["backendDOMNodeId"]})
    return f"{read_value(node, 'role')}: {found['outerHTML'][:150]}"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_tokens_have_enough_contrast(open_page: OpenPage, theme: str) -> None:
    watched = open_page("learn", theme=theme)
    names = sorted({*TEXTS_ON, *LINES, *(ground for grounds in TEXTS_ON.values() for ground in grounds)})
    colours = watched.page.evaluate(READ_COLOURS, names)
    pairs = [(text, ground, TEXT) for text, grounds in TEXTS_ON.items() for ground in grounds]
    pairs += [(line, "card", GRAPHICS) for line in LINES]
    low = {
        f"{text} on {ground}": round(contrast, 2) for text, ground, least in pairs
        if (contrast := measure_contrast(colours[text], colours[ground])) < least
    }
    assert low == {}


def measure_contrast(one: list[int], other: list[int]) -> float:
    """Returns the contrast of two colours as WCAG 2 defines it."""
    high, low = sorted((measure_luminance(one), measure_luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def measure_luminance(colour: list[int]) -> float:
    parts = [value / 255 for value in colour]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_states_have_a_word_beside_their_colour(open_page: OpenPage) -> None:
    watched = open_page("runs")
    show(watched, "runs")
    for state in watched.page.locator(".state").all():
        assert state.inner_text().strip() != ""
        assert state.locator("svg").count() == 1
