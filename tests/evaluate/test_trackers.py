"""The trackers of a run get the numbers of an evaluation, and keep what they know of the run."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.end_to_end.runs import rows

from fulgurite.config.guard import Allowed
from fulgurite.errors import DataError
from fulgurite.evaluate import trackers
from fulgurite.evaluate.result import EvalResult, add_result
from fulgurite.evaluate.subject import Subject, load_run_subject
from fulgurite.evaluate.trackers import describe_run, find_own_source, send_to_trackers
from fulgurite.logger.csv import read_evaluations
from fulgurite.logger.tracked_run import TrackedRun


@pytest.fixture
def subject(sft: Path, tmp_path: Path) -> Subject:
    """A run with logger=csv, in a copy of its folder."""
    copy = tmp_path / "run"
    shutil.copytree(sft, copy, symlinks=True)
    (copy / "eval.json").unlink(missing_ok=True)
    return load_run_subject(copy, "last", Allowed(), [], True)


def build_result(**data: Any) -> EvalResult:
    return EvalResult("run", "step-4", 4, {"loss": 1.5}, data=data)


class Tracker:
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def log_metrics(self, row: dict[str, float], step: int) -> None:
        self.sent.append((row, step))

    def finalize(self, status: str) -> None:
        self.sent.append(status)


def record(monkeypatch: pytest.MonkeyPatch) -> tuple[Tracker, list[TrackedRun]]:
    tracker, runs = Tracker(), []

    def build(loggers: Any, run: TrackedRun) -> list[Tracker]:
        runs.append(run)
        return [tracker]

    monkeypatch.setattr(trackers, "build_loggers", build)
    return tracker, runs


def test_csv_gets_a_row_beside_those_of_training(subject: Subject) -> None:
    assert subject.folder is not None
    result = build_result(part="validation")
    add_result(subject.folder, result.to_json())
    send_to_trackers(subject, result)
    found = list(csv.DictReader((subject.folder / "metrics.csv").read_text().splitlines()))
    assert len(found) == len(rows(subject.folder)) + 1
    assert (found[-1]["step"], found[-1]["eval/loss"]) == ("4", "1.5")


@pytest.mark.parametrize(("data", "name"), [
    ({"part": "validation"}, "eval/loss"), ({}, "eval/loss"),
    ({"part": "all", "files": ["/data/test.jsonl"]}, "eval/test/loss"),
])
def test_names_show_other_data(
    subject: Subject, data: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker, _ = record(monkeypatch)
    send_to_trackers(subject, build_result(**data))
    assert tracker.sent == [({name: 1.5}, 4), "success"]


def test_a_tracker_is_given_the_run_as_it_was_trained(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    _, runs = record(monkeypatch)
    send_to_trackers(subject, build_result(part="validation"))
    (run,) = runs
    assert run.settings["optim.lr"] == 1e-2
    assert run.provenance["optim.lr"]["origin"] == "command line"
    assert run.summary["total_steps"] == 4
    assert run.summary["rows"] > 0
    assert "optim.lr=1e-2" in run.words
    assert {one.kind for one in run.inputs} == {"dataset", "model"}


def test_data_that_are_gone_are_left_out(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(config: Any, **more: Any) -> Any:
        raise DataError("{path} does not exist.", path="gone.jsonl")

    assert subject.folder is not None
    subject.data = None
    assert find_own_source(subject) is not None
    monkeypatch.setattr(trackers, "build", refuse)
    assert find_own_source(subject) is None
    assert describe_run(subject.folder, None).inputs == ()


@pytest.mark.parametrize("why", ["running", "no tracker", "no step"])
def test_nothing_is_sent(subject: Subject, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker, _ = record(monkeypatch)
    result = build_result(part="validation")
    if why == "running":
        monkeypatch.setattr(trackers, "is_running", lambda folder, status: True)
    elif why == "no tracker":
        monkeypatch.setattr(trackers, "build_loggers", lambda loggers, run: [])
    else:
        result.step = None
    send_to_trackers(subject, result)
    assert tracker.sent == []


@pytest.mark.parametrize("text", [None, "{", "[]", '{"evaluations": [{"step": 1}]}'])
def test_a_damaged_file_has_no_rows(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "eval.json").write_text(text)
    assert read_evaluations(tmp_path / "eval.json") == []


def test_rows_of_other_data_are_left_out(tmp_path: Path) -> None:
    for part in ("validation", "all"):
        add_result(tmp_path, build_result(part=part).to_json())
    assert json.loads((tmp_path / "eval.json").read_text())["evaluations"][1]["data"] == {"part": "all"}
    assert read_evaluations(tmp_path / "eval.json") == [{"step": 4, "eval/loss": 1.5}]
