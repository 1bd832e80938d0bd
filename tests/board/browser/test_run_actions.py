"""What can be done with a run, clicked through one real run that outlives its server: stopped, resumed, talked with,
exported."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from tests.board.browser.board_process import BoardProcess
from tests.board.browser.conftest import OpenPage
from tests.board.browser.drafts import open_with_draft
from tests.board.browser.watched_page import WatchedPage, is_lost_connection

pytestmark = pytest.mark.browser

ENDLESS = {
    "trainer.max_steps": "50000", "trainer.global_batch_size": "4", "stage.prompts": "[]", "data.max_samples": "40",
    "trainer.eval_every": "50000", "trainer.save_every": "50000", "trainer.log_every": "1",
}


def wait_for_state(watched: WatchedPage, state: str) -> None:
    watched.page.locator(f".run-head .state.is-{state}").wait_for(timeout=120_000)


def read_pid(board: BoardProcess, watched: WatchedPage) -> int:
    """Returns the process that trains the run on the screen."""
    run = watched.ask(f"/api/runs/{watched.page.url.rpartition('/')[2]}")
    status = json.loads((board.folder / run["path"] / "status.json").read_text(encoding="utf-8"))
    return int(status["pid"])


def read_step(watched: WatchedPage) -> int:
    return int(watched.page.locator(".chart-reader").first.get_attribute("aria-valuemax") or 0)


def press(watched: WatchedPage, name: str) -> None:
    watched.page.get_by_role("button", name=name, exact=True).click()


def test_run_outlives_the_server_and_is_stopped_resumed_talked_with_and_exported(
    board: BoardProcess, open_page: OpenPage
) -> None:
    watched = open_with_draft(open_page, "plan", {"precision": "fp32"}, ENDLESS)
    page = watched.page
    page.locator(".command-bar .button.primary:enabled").click(timeout=60_000)
    wait_for_state(watched, "running")
    watched.wait_until(lambda: page.locator(".chart-reader").count() > 0, seconds=60, what="a step")

    board.kill()
    page.locator(".connection").wait_for()
    board.start()
    page.locator(".connection").wait_for(state="detached", timeout=30_000)
    shown = read_step(watched)
    watched.wait_until(lambda: read_step(watched) > shown, seconds=60, what="a step after the server was killed")

    # a process that is held up does not stop: after ten seconds the page offers to leave without saving
    pid = read_pid(board, watched)
    page.clock.install()
    page.reload()
    stop = page.get_by_role("button", name="Stop and save", exact=True)
    stop.wait_for()
    os.kill(pid, signal.SIGSTOP)
    try:
        stop.click()
        page.get_by_role("button", name="Stopping, and saving a checkpoint").wait_for()
        page.clock.fast_forward(11_000)
        page.get_by_role("button", name="Stop now, without saving").wait_for()
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for_state(watched, "stopped")

    press(watched, "Resume")
    page.wait_for_url("**/#/launch/*", timeout=60_000)
    wait_for_state(watched, "running")
    press(watched, "Stop and save")
    wait_for_state(watched, "stopped")

    press(watched, "Chat")
    page.get_by_label("Your message").fill("What is a warmup?")
    press(watched, "Send")
    answer = page.locator(".chat-message.is-assistant .chat-content")
    answer.wait_for()
    page.get_by_role("button", name="Send").wait_for(timeout=120_000)
    assert answer.inner_text().strip() not in ("", "…")

    press(watched, "Export")
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Adapter only").check()
    dialog.get_by_role("button", name="Start the export").click()
    page.locator(".notice.ok").wait_for(timeout=120_000)
    [folder] = [path for path in board.runs.rglob("export-adapter") if path.is_dir()]
    assert Path(folder, "adapter_config.json").is_file()
    watched.assert_clean(is_lost_connection)
