"""Takes the pictures of the board in docs/ from a real run: `python -m benchmarks.board_pictures [RUN]`.

RUN is a finished run folder, by default runs/picture, of which docs/run.svg is drawn too. The board runs for the folder
that contains RUN and reads it as any other run. Chromium is the system's, driven by playwright.

With `--all FOLDER` every screen is taken into FOLDER instead, whole, in both languages, on a phone and a desktop, light
and dark: to look at after a change of the page.
"""

from __future__ import annotations

import argparse
import itertools
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fulgurite.board.roots import make_run_id

DOCS = Path(__file__).resolve().parents[1] / "docs"
ADDRESS = re.compile(r"https?://\S+\?token=\S+")
COMPLETE = {
    "start": (".outcome-sentence", ".example-text"), "parameters": ("#place-optim\\.lr", ".range-derived"),
    "plan": (".numbers-row", "#plan-memory", "#plan-lengths"), "run": (".chart-reader", ".sample"),
    "runs": (".run-table tbody tr",), "learn": ("main h1",),
}
"""What is visible on a screen once it has its data."""
UNFINISHED = "main .spinner, main .stale, .command-bar .stale, main [aria-busy=true]"
WIDTH = 1280
FIRST_PLAN_MS = 180_000


@dataclass(frozen=True)
class Picture:
    """A picture of one screen; `height` is that of the window, None for the whole screen."""

    file: str
    screen: str
    language: str = "en"
    theme: str = "light"
    width: int = WIDTH
    height: int | None = 860


PICTURES = (
    Picture("board-start.png", "start"), Picture("board-parameters.png", "parameters"),
    Picture("board-run.png", "run", height=1000), Picture("board-plan.zh.png", "plan", "zh", "dark"),
)
"""The pictures of docs/board.md, the third of which the README shows too."""


def list_all() -> list[Picture]:
    """Returns a picture of each screen in each language, width and theme."""
    return [
        Picture(f"{screen}-{language}-{width}-{theme}.png", screen, language, theme, width, None)
        for screen, language, width, theme in itertools.product(COMPLETE, ("en", "zh"), (360, WIDTH), ("light", "dark"))
    ]


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Runs `fulgurite board` for the folder runs/ of a folder, and yields the printed address."""
    command = [sys.executable, "-u", "-m", "fulgurite", "board", "runs", "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder) as server:
        assert server.stdout is not None
        for line in server.stdout:
            if found := ADDRESS.search(line):
                yield found[0]
                break
        server.terminate()


def take(page: Any, picture: Picture, run_id: str, path: Path) -> None:
    """Takes a picture with a new page that has the cookie of the given one."""
    from playwright.sync_api import expect

    origin = page.url.partition("/#")[0].rstrip("/")
    context = page.context.browser.new_context(
        storage_state=page.context.storage_state(), viewport={"width": picture.width, "height": picture.height or 800},
        reduced_motion="reduce",
    )
    context.add_init_script(
        f"localStorage.setItem('fulgurite.lang', '{picture.language}'); "
        f"localStorage.setItem('fulgurite.theme', '{picture.theme}')"
    )
    shown = context.new_page()
    shown.goto(f"{origin}/#/{picture.screen}{f'/{run_id}' if picture.screen == 'run' else ''}")
    for selector in COMPLETE[picture.screen]:
        shown.locator(selector).first.wait_for(timeout=FIRST_PLAN_MS)
    expect(shown.locator(UNFINISHED)).to_have_count(0, timeout=FIRST_PLAN_MS)
    if picture.height is None:  # the window as high as the screen: a bar at its lower edge stays there
        high = shown.evaluate("document.documentElement.scrollHeight")
        shown.set_viewport_size({"width": picture.width, "height": high})
    shown.screenshot(path=str(path))
    print(f"{path.name}: {path.stat().st_size // 1000} kB", flush=True)
    context.close()


def main() -> None:
    """Takes the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, nargs="?", default=Path("runs/picture"))
    parser.add_argument("--all", type=Path, metavar="FOLDER", help="every screen, in every way, into this folder")
    given = parser.parse_args()
    run, folder = given.run.resolve(), DOCS if given.all is None else given.all.resolve()
    if not (run / "metrics.jsonl").is_file():
        raise SystemExit(f"{run} is not a run folder; the docstring of benchmarks/picture.py has the command.")
    from playwright.sync_api import sync_playwright

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as driver:
        copy = Path(scratch).resolve() / "runs" / run.name
        shutil.copytree(run, copy)
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        with serve(copy.parents[1]) as address:
            page = browser.new_context().new_page()
            page.goto(address)
            for picture in PICTURES if given.all is None else list_all():
                take(page, picture, make_run_id(copy), folder / picture.file)
        browser.close()


if __name__ == "__main__":
    main()
