"""The engine of rules: registration, moments, severities, and names that are no rule."""

from __future__ import annotations

import pytest

from fulgurite.errors import ConfigError
from fulgurite.rules.registry import Finding, Registry, Severity


def registry() -> Registry[int]:
    made: Registry[int] = Registry()

    @made.add("too-large", "warning", at="step")
    def too_large(facts: int) -> Finding | None:
        """A number above ten.

        Not part of the meaning.
        """
        return Finding(f"{facts} is large.", values={"number": facts}) if facts > 10 else None

    @made.add("too-large", at="end")
    def too_large_at_the_end(facts: int) -> list[Finding]:
        return [Finding("one"), Finding("two", severity=Severity.note)]

    @made.add("negative", Severity.stop, at="step")
    def negative(facts: int) -> Finding | None:
        """A number below zero."""
        return Finding("below zero") if facts < 0 else None

    return made


def test_a_rule_is_asked_at_its_moments_only() -> None:
    made = registry()
    assert [(rule.id, finding.sentence) for rule, finding in made.find(11, "step")] == [("too-large", "11 is large.")]
    assert [(rule.id, finding.sentence) for rule, finding in made.find(-1, "step")] == [("negative", "below zero")]
    assert [finding.severity for _, finding in made.find(1, "end")] == [None, Severity.note]
    assert list(made.find(11, "step", skip={"too-large"})) == []
    assert list(made.find(11)) == []


def test_a_rule_has_the_first_line_of_its_docstring_as_meaning() -> None:
    made = registry()
    assert {name: (rule.severity, rule.meaning) for name, rule in made.rules.items()} == {
        "too-large": (Severity.warning, "A number above ten."), "negative": (Severity.stop, "A number below zero."),
    }


def test_an_id_is_registered_once_per_moment() -> None:
    with pytest.raises(ValueError, match="too-large is registered already"):
        registry().add("too-large", at="step")(lambda facts: None)


def test_a_name_that_is_no_rule_is_refused_with_the_nearest() -> None:
    registry().refuse_unknown(["negative"], "some.parameter", "There are two.")
    with pytest.raises(
        ConfigError, match=r"some\.parameter=negativ is no rule\. Did you mean negative\? There are two\.",
    ):
        registry().refuse_unknown(["negativ"], "some.parameter", "There are two.")
