"""Sends the numbers of an evaluation to the trackers of its run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fulgurite.config.schema import build
from fulgurite.config.stored import rebuild_run
from fulgurite.data.source import Source
from fulgurite.errors import RequestError
from fulgurite.evaluate.result import EvalResult
from fulgurite.evaluate.subject import Subject
from fulgurite.files.json import read_object
from fulgurite.language.message import message
from fulgurite.logger.build import build_loggers
from fulgurite.logger.tracked_run import TrackedRun
from fulgurite.run.folder import read_config, read_provenance
from fulgurite.run.lineage import list_inputs
from fulgurite.run.status import is_running
from fulgurite.text.console import say


def send_to_trackers(subject: Subject, result: EvalResult) -> None:
    """Sends the numbers as `eval/NAME`, at the step of the checkpoint, to the trackers that the run had; on other data
    as `eval/FILE/NAME`.

    A tracker that fails is switched off with a warning. While the run is training its trackers belong to it.
    """
    folder = subject.folder
    if folder is None or not subject.run.logger or result.step is None:
        return
    if is_running(folder, _read(folder / "status.json")):
        say(message("The run is training: its trackers are not sent the numbers, which are in eval.json."))
        return
    head = "eval/" if result.data.get("part") in (None, "validation") else f"eval/{Path(result.data['files'][0]).stem}/"
    row = {f"{head}{name}": value for name, value in result.numbers.items()}
    for tracker in build_loggers(subject.run.logger, describe_run(folder, find_own_source(subject))):
        tracker.log_metrics(row, result.step)
        tracker.finalize("success")


def describe_run(folder: Path, source: Source | None) -> TrackedRun:
    """Returns what the trackers of a run were given when it trained, so that they keep it: from the files of its
    folder."""
    stored = read_provenance(folder)
    knobs = stored["knobs"]
    settings = {name: knob.get("value") for name, knob in knobs.items()}
    known = {name: {"origin": knob.get("origin"), "reason": knob.get("reason")} for name, knob in knobs.items()}
    status, report = _read(folder / "status.json"), _read(folder / "data_report.json")
    numbers = {"total_steps": status.get("total_steps"), "rows": report.get("rows_an_epoch")}
    run = rebuild_run(read_config(folder), folder=folder)
    inputs = () if source is None else list_inputs(run.model, run.method, run.stage, source, folder)
    return TrackedRun(folder, settings, known, numbers, tuple(map(str, stored.get("overrides", ()))), inputs)


def find_own_source(subject: Subject) -> Source | None:
    """Returns the data that the run was trained on; None if they cannot be read any more."""
    if subject.data is not None and subject.data.part == "validation":
        return subject.data.source
    assert subject.folder is not None
    run = rebuild_run(read_config(subject.folder), folder=subject.folder)
    try:
        source: Source = build(run.data, stage=run.stage.name, seed=run.seed)
        source.check()
    except RequestError:
        return None
    return source


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_object(path)
    except (OSError, ValueError):
        return {}
