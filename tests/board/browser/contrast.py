"""Looks at a screen in each width and both colours: it does not scroll sideways, and every text has enough contrast."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.board.browser.watched_page import WatchedPage

if TYPE_CHECKING:
    from playwright.sync_api import Page

FIND_FAINT = """() => {
  const paint = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const read = (color) => {
    paint.clearRect(0, 0, 1, 1);
    paint.fillStyle = color;
    paint.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = paint.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], [x, y, z]) => [r * a + x * (1 - a), g * a + y * (1 - a), b * a + z * (1 - a)];
  const behind = (node) => {
    const layers = [];
    for (let at = node; at; at = at.parentElement) layers.push(read(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
  };
  const light = (rgb) => {
    const linear = (c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = rgb.map((part) => linear(part / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const node = text.parentElement;
    const style = getComputedStyle(node);
    // WCAG leaves out what cannot be used; what is being computed is dimmed for a moment.
    const off = node.closest('[disabled], [aria-disabled="true"], .hidden, .stale, noscript, svg title');
    if (!text.data.trim() || off || !node.checkVisibility()) continue;
    const back = behind(node);
    const color = style.fill !== 'none' && node.namespaceURI.endsWith('svg') ? style.fill : style.color;
    const [one, two] = [light(over(read(color), back)), light(back)].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (two + 0.05);
    const big = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    const text40 = text.data.trim().slice(0, 40);
    if (ratio < (big ? 3 : 4.5) - 0.01) found.add(`${ratio.toFixed(2)} ${node.getAttribute('class')} ${text40}`);
  }
  return [...found];
}"""


def find_faint_texts(page: Page) -> list[str]:
    """Returns the texts of a page whose contrast with what is behind them is below level AA, with the ratio."""
    found: list[str] = page.evaluate(FIND_FAINT)
    return found


def assert_readable_everywhere(watched: WatchedPage) -> None:
    """Fails if the screen scrolls sideways or has a faint text on a phone, a tablet or a desk, light or dark."""
    page = watched.page
    for theme in ("light", "dark"):
        page.evaluate("(theme) => { document.documentElement.dataset.theme = theme; }", theme)
        for width in (360, 768, 1280):
            page.set_viewport_size({"width": width, "height": 800})
            assert watched.find_overflow() == "", (theme, width)
            for _ in range(5):  # what was just computed is dimmed until the next frame
                if not (faint := find_faint_texts(page)):
                    break
                page.wait_for_timeout(100)
            assert faint == [], (theme, width)
    watched.assert_clean()
