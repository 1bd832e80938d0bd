"""Five ways of people through the page, in both languages, from the first screen to a run."""

from __future__ import annotations

import re
import shlex

import pytest
from tests.board.browser.conftest import OpenPage
from tests.board.browser.drafts import open_with_draft, read_draft, wait_for_plan
from tests.board.browser.watched_page import WatchedPage, is_refused

pytestmark = pytest.mark.browser

LANGUAGES = ("en", "zh")
SHORT = {
    "trainer.max_steps": "4", "trainer.global_batch_size": "4", "stage.prompts": "[]", "data.max_samples": "40",
    "trainer.eval_every": "4",
}
"""A training of seconds."""
WIDE = {
    "model.hidden": "2048", "model.layers": "13", "trainer.micro_batch_size": "1",
    "trainer.gradient_checkpointing": "true",
}
"""A tiny model made wide: what it needs is computed, never built. With moments of eight bits, full fine-tuning takes
0.85 of the 8 GB that the board finds, which is tight; nothing milder than an adapter is left."""
TRIALS = {"en": 4, "zh": 1}
"""Trials of a search after which its best is opened."""
FINISHED = {"en": "finished", "zh": "已完成"}


def start(watched: WatchedPage) -> None:
    """Presses the button that starts the run, once the runs before it have left."""
    watched.wait_until(lambda: all(launch["state"] == "ended" for launch in watched.ask("/api/runs")["launches"]), 60)
    watched.page.locator(".command-bar .button.primary:enabled").click(timeout=60_000)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_reader_of_the_article(open_page: OpenPage, lang: str) -> None:
    """Picks a JSONL, types 5e-5, hears that this is low for LoRA, starts, closes the tab, and comes back."""
    watched = open_with_draft(open_page, "start", values=SHORT, lang=lang)
    page = watched.page
    page.locator('input[type=radio][value="file"]').check(force=True)
    page.locator("#field-data\\.path").fill("runs/my.jsonl")
    # until the file is read, the examples are those of the shipped data
    page.locator(".examples", has_text="What is 0 + 1?").wait_for(timeout=60_000)
    watched.go("parameters")
    page.locator("#row-optim\\.lr").fill("5e-5")
    advice = page.locator("#row-optim\\.lr-advice.warning")
    advice.wait_for(timeout=60_000)
    assert "5e-05" in advice.inner_text() or "5e-5" in advice.inner_text()
    assert "optim.lr=5e-5" in wait_for_plan(page, "5e-5")
    assert "fulgurite.draft" in page.evaluate("Object.keys(localStorage).join()")
    start(watched)
    page.locator(".run-head .state").wait_for(timeout=120_000)
    address = page.url.partition("#/")[2]
    page.close()
    again = open_page("runs", lang=lang, beside=watched)
    again.page.locator(".run-table tbody tr").nth(1).wait_for()
    again.go(address)
    again.page.locator(".state.is-finished").wait_for(timeout=120_000)
    assert again.page.locator(".state.is-finished").inner_text().strip() == FINISHED[lang]
    again.assert_clean()


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
    wait_for_plan(page, "method.rank=8")
    page.locator(".command-bar .button").first.click()
    copied = page.evaluate("navigator.clipboard.readText()")
    words = shlex.split(copied)
    assert words[:2] == ["fulgurite", "train"]
    assert "method.rank=8" in words
    assert any(word.startswith("optim.lr=") and float(word.partition("=")[2]) == 3e-4 for word in words)
    watched.assert_clean()


@pytest.mark.parametrize("lang", LANGUAGES)
def test_small_machine(open_page: OpenPage, lang: str) -> None:
    """Full fine-tuning is tight: amber. The button takes LoRA, and all is green."""
    choices = {"method": "full", "optim": "adamw_8bit"}
    watched = open_with_draft(open_page, "plan", choices, {**SHORT, **WIDE}, lang=lang)
    page = watched.page
    wait_for_plan(page, "method=full")
    panel = page.locator("section", has=page.locator("#plan-memory"))
    assert panel.locator(".chip.warning").inner_text().strip() == {"en": "tight", "zh": "内存偏紧"}[lang]
    assert page.locator("main .chip.error").count() == 0
    page.locator(".apply", has_text="method=lora").first.click()
    wait_for_plan(page, "method=lora")
    panel.locator(".chip.ok").wait_for()
    assert read_draft(page)["choices"]["method"] == "lora"
    watched.assert_clean()


@pytest.mark.parametrize("lang", LANGUAGES)
def test_mistake(open_page: OpenPage, lang: str) -> None:
    """Data of instructions with DPO: one sentence, and one button that puts it right."""
    watched = open_with_draft(
        open_page, "plan", {"stage": "dpo", "data": "file"}, {**SHORT, "data.path": "runs/my.jsonl"}, lang=lang
    )
    page = watched.page
    remedy = page.locator("main .apply", has_text="stage=sft")
    remedy.first.wait_for(timeout=60_000)
    assert page.locator("main .notice.error").count() == 1
    assert page.locator(".command-bar .button.primary").is_disabled()
    remedy.first.click()
    assert "stage=dpo" not in wait_for_plan(page, "my.jsonl")
    page.locator(".command-bar .button.primary:enabled").wait_for()
    watched.assert_clean(is_refused)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_sweep(open_page: OpenPage, lang: str) -> None:
    """Starts a search of four trials, watches them, and opens the best. In Chinese it is stopped after the first one,
    which takes half of the time."""
    watched = open_with_draft(open_page, "parameters", values={**SHORT, "sweep.trials": "4"}, lang=lang)
    page = watched.page
    wait_for_plan(page)
    page.locator("[aria-controls=choice-rest]").click()
    page.locator("[aria-controls=group-sweep]").click()
    page.locator('#group-sweep input[value="sft_lora"]').check(force=True)
    assert "sweep.trials=4" in wait_for_plan(page, "+sweep=sft_lora")
    before = [sweep["id"] for sweep in watched.ask("/api/runs")["sweeps"]]
    start(watched)

    def find_new() -> list[str]:
        return [sweep["folder"] for sweep in watched.ask("/api/runs")["sweeps"] if sweep["id"] not in before]

    watched.wait_until(lambda: bool(find_new()), seconds=120, what="the search")
    search = page.locator(".sweep", has_text=find_new()[0].rpartition("/")[2])
    search.locator("tbody tr").first.wait_for(timeout=90_000)
    finished = search.locator("tbody .state.is-finished")
    watched.wait_until(lambda: finished.count() >= TRIALS[lang], seconds=180, what="trials")
    stop = search.get_by_role("button", name=re.compile("the command|该命令"))
    if lang == "zh":
        stop.click()
    stop.wait_for(state="detached", timeout=60_000)
    search.locator("tr.is-best a").first.click()
    page.locator(".run-head .state.is-finished").wait_for()
    assert page.locator(".run-head .state").inner_text().strip() == FINISHED[lang]
    watched.assert_clean()
