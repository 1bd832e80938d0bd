"""Five ways of people through the page, in both languages, from the first screen to a run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from tests.board.browser.board_process import BoardProcess
from tests.board.browser.conftest import OpenPage
from tests.board.browser.run_folders import write_run
from tests.board.browser.watched_page import WatchedPage, is_refused

pytestmark = pytest.mark.browser

LANGUAGES = ("en", "zh")
SHORT = {
    "trainer.max_steps": "4", "trainer.global_batch_size": "4", "stage.prompts": "[]", "data.max_samples": "40",
    "trainer.eval_every": "4",
}
"""A training of seconds."""
BYTES_A_WEIGHT = 9
"""Less than full fine-tuning needs even with moments of eight bits, and twice what LoRA needs."""


@pytest.fixture(scope="module")
def fill_board() -> Callable[[BoardProcess], None]:
    """Data of one's own, and a run of somebody else."""
    def fill(board: BoardProcess) -> None:
        rows = [{"instruction": f"What is {n} + 1?", "input": "", "output": f"It is {n + 1}."} for n in range(60)]
        (board.runs / "my.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        write_run(board.runs / "theirs", name="theirs", knobs={"optim.lr": 3e-4, "method.rank": 16})
    return fill


def read_draft(watched: WatchedPage) -> dict[str, dict[str, Any]]:
    draft: dict[str, dict[str, Any]] = json.loads(watched.page.evaluate("sessionStorage.getItem('fulgurite.draft')"))
    return draft


def wait_for_command(watched: WatchedPage, word: str = "fulgurite train") -> str:
    """Waits until the newest plan is on the page; returns its command line."""
    shown = watched.page.locator(".command-text:not(.stale)", has_text=word)
    shown.wait_for(timeout=60_000)
    return shown.inner_text()


def start(watched: WatchedPage) -> None:
    """Presses the button that starts the run."""
    watched.page.locator(".command-bar .button.primary").click()


@pytest.mark.parametrize("lang", LANGUAGES)
def test_reader_of_the_article(open_page: OpenPage, lang: str) -> None:
    """Picks a JSONL, types 5e-5, hears that this is low for LoRA, starts, closes the tab, and comes back."""
    watched = open_page("learn", lang=lang)
    watched.hold_draft("start", {}, SHORT)
    page = watched.page
    page.locator('input[type=radio][value="file"]').check(force=True)
    page.locator("#field-data\\.path").fill("runs/my.jsonl")
    page.locator(".examples").wait_for(timeout=60_000)
    assert "What is 0 + 1?" in page.locator(".examples").inner_text()
    watched.go("parameters")
    page.locator("#row-optim\\.lr").fill("5e-5")
    advice = page.locator("#row-optim\\.lr-advice.warning")
    advice.wait_for()
    assert "5e-05" in advice.inner_text() or "5e-5" in advice.inner_text()
    assert "optim.lr=5e-5" in wait_for_command(watched, "5e-5")
    assert "fulgurite.draft" in page.evaluate("Object.keys(localStorage).join()")
    if lang == "zh":
        start(watched)
        page.locator(".run-head .state").wait_for(timeout=90_000)
        address = page.url.partition("#/")[2]
        page.close()
        again = open_page("runs", lang=lang, beside=watched)
        again.page.locator(".run-table tbody tr").nth(1).wait_for()
        again.go(address)
        again.page.locator(".state.is-finished").wait_for(timeout=60_000)
        assert again.page.locator(".state.is-finished").inner_text().strip() == "已完成"
        again.assert_clean()
    else:
        watched.assert_clean()


@pytest.mark.parametrize("lang", LANGUAGES)
def test_researcher(open_page: OpenPage, lang: str) -> None:
    """Opens the configuration of a run, changes one parameter, and copies the command."""
    watched = open_page("runs", lang=lang)
    page = watched.page
    row = page.locator('.run-table tbody tr:has(a:text-is("theirs"))')
    row.locator(".row-actions button").first.click()
    page.locator("#row-method\\.rank").wait_for(timeout=60_000)
    assert page.locator("#row-method\\.rank").input_value() == "16"
    page.locator("#row-method\\.rank").fill("8")
    wait_for_command(watched, "method.rank=8")
    page.locator(".command-bar .button").first.click()
    copied = page.evaluate("navigator.clipboard.readText()")
    words = shlex.split(copied)
    assert words[:2] == ["fulgurite", "train"]
    assert "method.rank=8" in words
    assert any(word.startswith("optim.lr=") and float(word.partition("=")[2]) == 3e-4 for word in words)
    watched.assert_clean()


@pytest.mark.parametrize("lang", LANGUAGES)
def test_small_machine(open_page: OpenPage, lang: str) -> None:
    """Full fine-tuning does not fit well; the button takes LoRA, and it fits."""
    watched = open_page("learn", lang=lang)
    free = psutil.virtual_memory().available
    # a tiny model made wide and deep: what it needs is computed, never built
    hidden = 4096
    layers = max(2, int(free / BYTES_A_WEIGHT / (12 * hidden**2)))
    values = {**SHORT, "model.hidden": str(hidden), "model.layers": str(layers)}
    watched.hold_draft("plan", {"method": "full"}, values)
    page = watched.page
    wait_for_command(watched, "method=full")
    page.locator(".memory").wait_for()
    assert page.locator("main .chip.warning, main .chip.error").count() > 0
    page.locator(".apply", has_text="method=lora").first.click()
    wait_for_command(watched, "method=lora")
    page.locator("main .chip.ok").first.wait_for()
    assert read_draft(watched)["choices"]["method"] == "lora"
    watched.assert_clean()


@pytest.mark.parametrize("lang", LANGUAGES)
def test_mistake(open_page: OpenPage, lang: str) -> None:
    """Data of instructions with DPO: one sentence, and one button that puts it right."""
    watched = open_page("learn", lang=lang)
    watched.hold_draft("plan", {"stage": "dpo", "data": "file"}, {**SHORT, "data.path": "runs/my.jsonl"})
    page = watched.page
    remedy = page.locator("main .apply", has_text="stage=sft")
    remedy.first.wait_for(timeout=60_000)
    assert page.locator("main .notice.error").count() == 1
    assert page.locator(".command-bar .button.primary").is_disabled()
    remedy.first.click()
    assert "stage=dpo" not in wait_for_command(watched, "my.jsonl")
    page.locator(".command-bar .button.primary:enabled").wait_for()
    watched.assert_clean(is_refused)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_sweep(open_page: OpenPage, lang: str) -> None:
    """Starts a search of four trials, watches them, and opens the best."""
    watched = open_page("learn", lang=lang)
    watched.hold_draft("parameters", {}, {**SHORT, "sweep.trials": "4"})
    page = watched.page
    wait_for_command(watched)
    page.locator("[aria-controls=choice-rest]").click()
    page.locator("[aria-controls=group-sweep]").click()
    page.locator('#group-sweep input[value="sft_lora"]').check(force=True)
    assert "sweep.trials=4" in wait_for_command(watched, "+sweep=sft_lora")
    page.locator(".command-bar .button.primary:enabled").wait_for()
    if lang == "en":
        start(watched)
        search = page.locator(".sweep")
        search.locator("tbody tr").first.wait_for(timeout=90_000)
        watched.wait_until(lambda: search.locator("tbody .state.is-finished").count() == 4, seconds=120, what="trials")
        search.locator("tr.is-best a").first.click()
        page.locator(".run-head .state.is-finished").wait_for()
    watched.assert_clean()
