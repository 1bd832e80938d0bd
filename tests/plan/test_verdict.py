"""What `train` does about the findings of a plan: refuses, warns, or writes them down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fulgurite.errors import ConfigError, RequestError
from fulgurite.plan.diagnostic import Trouble
from fulgurite.plan.verdict import format_trouble, list_warnings, refuse_unknown, write
from fulgurite.rules.registry import Severity

ERROR = Trouble("rate.out-of-band", Severity.error, "It is high.", "optim.lr=0.001")
WARNING = Trouble("data.no-validation", Severity.warning, "There is none.", "data.val_fraction=0.05")
NOTE = Trouble("data.cache", Severity.note, "It takes long.")


def test_unknown_rule_is_refused_with_the_nearest() -> None:
    refuse_unknown(["rate.out-of-band"], ["clip-share"])
    with pytest.raises(ConfigError, match=r"plan\.allow=rate\.out-of-ban is no rule\. Did you mean rate\.out-of-band"):
        refuse_unknown(["rate.out-of-ban"], [])
    sentence = r"monitor\.ignore=clip-shar is no rule\. Did you mean clip-share\? There are: step-zero, "
    with pytest.raises(ConfigError, match=sentence):
        refuse_unknown([], ["norm-high", "clip-shar"])


def test_line_has_sentence_remedy_and_how_to_insist() -> None:
    assert str(format_trouble(ERROR)) == (
        "[rate.out-of-band] It is high. Do: optim.lr=0.001 To insist: plan.allow=[rate.out-of-band]"
    )
    # a rule that may not be allowed, and one without a remedy
    assert str(format_trouble(Trouble("data.two-starts", Severity.error, "Two."))) == "[data.two-starts] Two."
    assert str(format_trouble(NOTE)) == "[data.cache] It takes long."


def test_errors_are_raised_together_and_no_line_is_printed() -> None:
    other = Trouble("data.two-starts", Severity.error, "Two.")
    with pytest.raises(RequestError) as refused:
        list_warnings([ERROR, WARNING, other])
    assert str(refused.value) == f"{format_trouble(ERROR)}\nerror: {format_trouble(other)}"


def test_allowed_errors_and_warnings_are_printed_and_notes_are_not() -> None:
    allowed = Trouble(ERROR.rule, ERROR.severity, ERROR.sentence, ERROR.remedy, allowed=True)
    quiet = Trouble(WARNING.rule, WARNING.severity, WARNING.sentence, allowed=True)
    assert [str(line) for line in list_warnings([allowed, WARNING, quiet, NOTE])] == [
        "allowed: [rate.out-of-band] It is high. Do: optim.lr=0.001",
        "warning: [data.no-validation] There is none. Do: data.val_fraction=0.05",
    ]


def test_file_has_every_finding(tmp_path: Path) -> None:
    write([ERROR, NOTE], tmp_path / "troubles.json")
    first, second = json.loads((tmp_path / "troubles.json").read_text())
    assert first == {
        "rule": "rate.out-of-band", "severity": "error", "sentence": "It is high.", "remedy": "optim.lr=0.001",
        "allowed": False, "about": "", "message": {"key": "It is high.", "facts": {}},
    }
    assert (second["severity"], second["remedy"]) == ("note", "")
