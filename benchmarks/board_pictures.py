"""Takes the pictures of the board in docs/ from a real run: `python -m benchmarks.board_pictures [RUN]`.

RUN is a finished run folder, by default runs/picture, of which docs/run.svg is drawn too. The board runs for the folder
that contains RUN and reads it as any other run. Chromium is the system's, driven by playwright.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fulgurite.board.roots import make_run_id

DOCS = Path(__file__).resolve().parents[1] / "docs"
ADDRESS = re.compile(r"https?://\S+\?token=\S+")
PLANNED = re.compile(r"\d (MB|GB)")
SCREENS = (
    # file, screen, language, theme, height, what is visible once the screen is complete
    ("board-start.png", "start", "en", "light", 860, PLANNED),
    ("board-parameters.png", "parameters", "en", "light", 860, "optim.lr"),
    ("board-run.png", "run/{id}", "en", "light", 1000, re.compile("tokens", re.IGNORECASE)),
    ("board-plan.zh.png", "plan", "zh", "dark", 860, PLANNED),
)
"""The pictures of docs/board.md, the third of which the README shows too."""
WIDTH = 1280
FIRST_PLAN_MS = 180_000


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


def take(page: Any, origin: str, run_id: str) -> None:
    """Takes every picture of SCREENS with a page that is logged in."""
    state = page.context.storage_state()
    for name, screen, language, theme, height, complete in SCREENS:
        context = page.context.browser.new_context(
            storage_state=state, viewport={"width": WIDTH, "height": height}, reduced_motion="reduce"
        )
        context.add_init_script(
            f"localStorage.setItem('fulgurite.lang', '{language}'); localStorage.setItem('fulgurite.theme', '{theme}')"
        )
        shown = context.new_page()
        shown.goto(f"{origin}/#/{screen.format(id=run_id)}")
        shown.get_by_text(complete).first.wait_for(timeout=FIRST_PLAN_MS)
        shown.wait_for_load_state("load")
        shown.wait_for_timeout(1500)  # the stream of a run and the data of a screen arrive after it
        shown.screenshot(path=str(DOCS / name))
        print(f"docs/{name}: {(DOCS / name).stat().st_size // 1000} kB")
        context.close()


def main() -> None:
    """Takes the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, nargs="?", default=Path("runs/picture"))
    run = parser.parse_args().run.resolve()
    if not (run / "metrics.jsonl").is_file():
        raise SystemExit(f"{run} is not a run folder; the docstring of benchmarks/picture.py has the command.")
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as driver:
        copy = Path(scratch).resolve() / "runs" / run.name
        shutil.copytree(run, copy)
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        with serve(copy.parents[1]) as address:
            page = browser.new_context().new_page()
            page.goto(address)
            take(page, address.partition("/?")[0], make_run_id(copy))
        browser.close()


if __name__ == "__main__":
    main()
