"""The colors of a plan on a terminal."""

from __future__ import annotations

import re

import pytest

from fulgurite.language import use_language
from fulgurite.plan.color import color_findings, shows_color
from fulgurite.plan.diagnostic import Trouble
from fulgurite.plan.report import format_troubles
from fulgurite.rules.registry import Severity

FOUND = [
    Trouble("rate.out-of-band", Severity.error, "optim.lr is high.", "optim.lr=0.001"),
    Trouble("data.no-validation", Severity.warning, "There is none."), Trouble("data.cache", Severity.note, "Slow."),
]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_severities_have_weight_and_color_and_the_text_is_the_same(language: str) -> None:
    with use_language(language):
        text = format_troubles(FOUND, 80)
        colored = color_findings(text)
    assert re.sub(r"\x1b\[[\d;]*m", "", colored) == text
    assert re.findall(r"\x1b\[([\d;]+)m", colored) == ["1;31", "0", "1", "0", "1;33", "0", "1;2", "0"]


@pytest.mark.parametrize(("variables", "terminal", "shown"), [
    ({}, True, True), ({}, False, False), ({"NO_COLOR": "1"}, True, False), ({"NO_COLOR": ""}, True, True),
    ({"TERM": "dumb"}, True, False),
])
def test_color_is_for_terminals_and_no_color_turns_it_off(
    variables: dict[str, str], terminal: bool, shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    assert shows_color() is shown
