"""How a finding is reported: printed, written to watch.jsonl and sent to the trackers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest

from fulgurite.errors import TrainingFailed
from fulgurite.monitor.reporter import Reporter
from fulgurite.rules.registry import Finding, Severity

FINDING = Finding("Something is wrong.", "Do this.")


def test_finding_is_one_row_and_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter(tmp_path / "watch.jsonl")
    reporter.speak(4, "norm-high", Finding("It is high.", "Lower it.", {"norm": 9.0}, Severity.note), [], True)
    assert capsys.readouterr().err == "note (norm-high, step 4): It is high. Lower it.\n"
    assert json.loads((tmp_path / "watch.jsonl").read_text()) == {
        "step": 4, "rule": "norm-high", "severity": "note", "sentence": "It is high.", "remedy": "Lower it.",
        "values": {"norm": 9.0},
        "messages": {"sentence": {"key": "It is high.", "facts": {}}, "remedy": {"key": "Lower it.", "facts": {}}},
    }


def test_process_that_does_not_write_sends_nothing_to_trackers(tmp_path: Path) -> None:
    class Refusing:
        def log_text(self, *args: Any) -> None:
            raise AssertionError

    Reporter(tmp_path / "watch.jsonl").speak(4, "norm-high", FINDING, [Refusing()], False)
    assert list(tmp_path.iterdir()) == []


def test_each_rule_is_one_alert_with_its_severity_also_when_it_stops_the_run(tmp_path: Path) -> None:
    class Tracker:
        alerts: ClassVar[list[tuple[Any, ...]]] = []

        def alert(self, *given: Any) -> None:
            self.alerts.append(given)

    tracker, reporter = Tracker(), Reporter(tmp_path / "watch.jsonl")
    reporter.speak(4, "norm-high", FINDING, [tracker, object()], True)
    with pytest.raises(TrainingFailed):
        reporter.speak(7, "loss-zero", FINDING, [tracker], True)
    assert tracker.alerts == [
        ("norm-high", "warning", "Something is wrong. Do this.", 4),
        ("loss-zero", "stop", "Something is wrong. Do this.", 7),
    ]


def test_finding_that_stops_the_run_raises_on_every_process(tmp_path: Path) -> None:
    for writes in (True, False):
        with pytest.raises(TrainingFailed, match=r"^Step 7: Something is wrong\. Do this\. To continue anyway: "):
            Reporter(tmp_path / "watch.jsonl").speak(7, "loss-zero", FINDING, [], writes)
    assert json.loads((tmp_path / "watch.jsonl").read_text())["step"] == 7


def test_resume_drops_findings_after_the_last_checkpoint(tmp_path: Path) -> None:
    reporter = Reporter(tmp_path / "watch.jsonl")
    for step, name in ((3, "norm-high"), (7, "clip-share")):
        reporter.speak(step, name, FINDING, [], True)
    with (tmp_path / "watch.jsonl").open("a") as stream:
        stream.write('{"step": 8, "rule": "pla')
    again = Reporter(tmp_path / "watch.jsonl")
    again.begin(5, True)
    assert again.said == {"norm-high"}
    assert [json.loads(line)["step"] for line in (tmp_path / "watch.jsonl").read_text().splitlines()] == [3]
    other = Reporter(tmp_path / "watch.jsonl")
    other.begin(5, False)  # another process of the run reads, and writes nothing
    assert other.said == {"norm-high"}


def test_run_goes_on_if_the_file_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Reporter(tmp_path / "gone" / "watch.jsonl").speak(1, "norm-high", FINDING, [], True)
    assert "watch.jsonl cannot be written (No such file or directory); the run goes on." in caplog.text
