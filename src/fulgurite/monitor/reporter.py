"""Reports a finding once: on the terminal, in watch.jsonl and to the trackers."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from fulgurite.errors import TrainingFailed
from fulgurite.files.atomic import write_file
from fulgurite.language.library_errors import translate_system_error
from fulgurite.language.message import as_message, get_english, message
from fulgurite.logger.metrics_file import read_rows
from fulgurite.monitor.rules import RULES
from fulgurite.rules.registry import Finding, Severity, describe_severity
from fulgurite.text.console import say

log = logging.getLogger(__name__)

COLUMNS = ("step", "rule", "severity", "sentence", "remedy")


class Reporter:
    """Reports each rule's finding once a run. A disk that refuses watch.jsonl never ends a run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.said: set[str] = set()
        self.rows: list[dict[str, Any]] = []

    def begin(self, step: int, writes: bool) -> None:
        """A run begins or goes on after `step`: what a killed process reported after that step is dropped."""
        if self.path.exists():
            self.rows = [row for row in _read_rows(self.path) if row["step"] <= step]
            self.said = {str(row["rule"]) for row in self.rows}
            if writes:
                self._write()

    def speak(self, step: int, rule: str, finding: Finding, trackers: list[Any], writes: bool) -> None:
        """Reports a finding. Raises TrainingFailed with its sentence if the run has to stop."""
        severity = finding.severity or RULES.rules[rule].severity
        self.said.add(rule)
        row = {
            "step": step,
            "rule": rule,
            "severity": str(severity),
            "sentence": get_english(finding.sentence),
            "remedy": get_english(finding.remedy),
            "values": finding.values,
            "messages": {
                "sentence": as_message(finding.sentence).to_json(), "remedy": as_message(finding.remedy).to_json(),
            },
        }
        self.rows.append(row)
        if writes:
            self._write()
            for tracker in trackers:
                if hasattr(tracker, "log_text"):
                    tracker.log_text("watch", list(COLUMNS), [[str(r[c]) for c in COLUMNS] for r in self.rows], step)
                if hasattr(tracker, "alert"):
                    tracker.alert(rule, str(severity), f"{row['sentence']} {row['remedy']}", step)
        # The last action: watch.jsonl and the trackers have to contain why the run ended.
        if severity is Severity.stop:
            raise TrainingFailed(
                "Step {step}: {sentence} {remedy} To continue anyway: monitor.ignore=[{rule}].",
                step=step, sentence=finding.sentence, remedy=finding.remedy, rule=rule,
            )
        say(
            message(
                "{severity} ({rule}, step {step}): {sentence} {remedy}",
                severity=describe_severity(severity), rule=rule, step=step, sentence=finding.sentence,
                remedy=finding.remedy,
            )
        )

    def _write(self) -> None:
        try:
            write_file(self.path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self.rows))
        except OSError as error:
            log.warning(message(
                "{path} cannot be written ({reason}); the run goes on.",
                path=self.path, reason=translate_system_error(error),
            ))


def _read_rows(path: Path) -> list[dict[str, Any]]:
    try:
        return [row for row in read_rows(path)[0] if row.get("rule") in RULES.rules and set(COLUMNS) <= set(row)]
    except OSError as error:
        log.warning(message(
            "{path} cannot be read ({reason}); findings in it may be repeated.",
            path=path, reason=translate_system_error(error),
        ))
        return []
