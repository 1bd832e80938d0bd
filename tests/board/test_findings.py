"""Findings before and during a run, in the language of the page, and what is usually meant by a failure."""

from __future__ import annotations

from pathlib import Path

import pytest

from fulgurite.board.findings import find_symptom, read_findings
from fulgurite.errors import TrainingFailed
from fulgurite.language.current import use_language
from fulgurite.language.message import UserMessage, message
from fulgurite.monitor.reporter import Reporter
from fulgurite.plan.diagnostic import Trouble
from fulgurite.plan.verdict import write
from fulgurite.rules.registry import Finding, Severity

KNOWN = message("The validation loss is {loss} at step {step}: the weights or the evaluation overflow.{best}",
                loss="nan", step=7, best="")


def report(folder: Path, step: int = 7, rule: str = "norm-high", sentence: str | UserMessage = KNOWN) -> None:
    Reporter(folder / "watch.jsonl").speak(step, rule, Finding(sentence, message("Lower optim.lr.")), [], True)


def test_findings_before_and_during_have_their_step(tmp_path: Path) -> None:
    write([Trouble("rate.out-of-band", Severity.warning, "It is high.", "optim.lr=1e-3", about="optim.lr")],
          tmp_path / "troubles.json")
    report(tmp_path)
    before, during = read_findings(tmp_path)
    assert before == {
        "step": 0, "severity": "warning", "rule": "rate.out-of-band", "sentence": "It is high.",
        "remedy": "optim.lr=1e-3", "about": "optim.lr", "allowed": False,
    }
    assert (during["step"], during["rule"], during["remedy"]) == (7, "norm-high", "Lower optim.lr.")
    assert during["sentence"].startswith("The validation loss is nan at step 7")


def test_sentence_is_translated_with_its_facts(tmp_path: Path) -> None:
    report(tmp_path)
    with use_language("zh"):
        [found] = read_findings(tmp_path)
        assert found["sentence"] == str(KNOWN)
    assert "nan" in found["sentence"]
    assert found["sentence"] != KNOWN.english


@pytest.mark.parametrize("content", ["", "[", "{}", "[7, null]", '[{"rule": 3}]'])
def test_damaged_files_raise_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "troubles.json").write_text(content)
    (tmp_path / "watch.jsonl").write_text(content)
    assert all(set(found) >= {"step", "rule", "sentence"} for found in read_findings(tmp_path))


def test_symptom_is_that_of_the_finding_that_stopped_the_run(tmp_path: Path) -> None:
    report(tmp_path, 3, "clip-share")
    with pytest.raises(TrainingFailed):
        report(tmp_path / "..", 9, "above-chance")
    rows = read_findings(tmp_path)
    stopped = {"step": 9, "severity": "stop", "rule": "above-chance"}
    found = find_symptom([*rows, stopped], "")
    assert found is not None
    assert found["seen"] == "The loss is as high as that of a random model."


@pytest.mark.parametrize(("why", "seen"), [
    ("TrainingFailed: Out of memory at step 3.", "Out of memory (OOM)."),
    ("TrainingFailed: the loss is not finite", "A number is not finite."),
    ("Interrupted: SIGTERM", None),
])
def test_without_a_finding_the_words_of_the_error_decide(why: str, seen: str | None) -> None:
    found = find_symptom([], why)
    assert (found and found["seen"]) == seen
