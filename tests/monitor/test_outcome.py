"""How a run ended: done, with warnings, or diverged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.monitor.courses import HEALTHY, Course, find_all

from fulgurite.monitor.history import History
from fulgurite.monitor.outcome import RunEnding, find_ending
from fulgurite.monitor.rules import RULES
from fulgurite.run.status import track_status


def record(course: Course, steps: int) -> tuple[History, list[dict[str, Any]]]:
    """Returns the history of a run and its rows of watch.jsonl."""
    history = History()
    for step in range(1, steps + 1):
        history.add(step, {"train/loss": course.at(course.loss, step)}, 500)
    return history, [
        {"step": step, "rule": rule, "severity": RULES.rules[rule].severity, "values": values}
        for step, rule, values in find_all(course, steps)
    ]


def test_run_without_findings_is_done() -> None:
    assert find_ending(*record(HEALTHY, 60)) == RunEnding()
    assert (RunEnding().state, str(RunEnding().format_opening())) == ("finished", "Done:")


@pytest.mark.parametrize(
    "losses", [[6.2, 26, 50], [2.0, 2.1, 2.0, 2.1, 6.0, 6.1], [2 + 0.05 * n for n in range(60)]],
    ids=["above chance", "a jump", "a slow rise"],
)
def test_run_whose_loss_stays_up_is_diverged(losses: list[float]) -> None:
    for steps in (len(losses), 70):
        how = find_ending(*record(Course(losses), steps))
        assert (how.state, str(how.format_opening()).partition(" ")[0]) == ("diverged", "Diverged:"), steps


def test_warnings_have_the_step() -> None:
    assert "diverged (step 2)" in find_ending(*record(Course([6.2, 26, 50]), 3)).warnings


def test_run_whose_loss_came_back_ended_with_warnings() -> None:
    how = find_ending(*record(Course([2.0, 2.1, 2.0, 2.1, 6.0, 6.1, 2.0, 2.1]), 30))
    assert how == RunEnding(("spike (step 6)",))
    assert (how.state, str(how.format_opening())) == ("finished", "Ended with 1 warning: spike (step 6);")


def test_note_is_no_warning() -> None:
    note = {"step": 9, "rule": "dpo-falls", "severity": "note", "values": {}}
    assert find_ending(record(HEALTHY, 60)[0], [note]) == RunEnding()


def test_two_warnings_are_counted_in_the_last_line() -> None:
    how = RunEnding(("a (step 1)", "b (step 2)"))
    assert str(how.format_opening()) == "Ended with 2 warnings: a (step 1), b (step 2);"


def test_status_file_has_the_ending(tmp_path: Path) -> None:
    with track_status(tmp_path, name="x") as ended:
        ended |= {"state": "diverged", "warnings": ["diverged (step 2)"]}
    kept = json.loads((tmp_path / "status.json").read_text())
    assert (kept["state"], kept["warnings"]) == ("diverged", ["diverged (step 2)"])
    with track_status(tmp_path, name="x"):
        pass
    kept = json.loads((tmp_path / "status.json").read_text())
    assert (kept["state"], "warnings" in kept) == ("finished", False)
