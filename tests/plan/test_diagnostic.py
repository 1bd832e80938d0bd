"""A finding of a rule: whether it refuses the run, and what can be pasted."""

from __future__ import annotations

import pytest

from fulgurite.plan.diagnostic import Trouble
from fulgurite.rules.registry import Severity


@pytest.mark.parametrize(
    ("severity", "allowed", "refuses"),
    [
        (Severity.error, False, True), (Severity.error, True, False), (Severity.warning, False, False),
        (Severity.note, False, False),
    ],
)
def test_only_an_error_that_is_not_allowed_refuses(severity: Severity, allowed: bool, refuses: bool) -> None:
    assert Trouble("a.b", severity, "It is so.", allowed=allowed).refuses is refuses


def test_remedy_is_split_into_overrides() -> None:
    assert Trouble("a.b", Severity.note, "It is so.", "optim=adamw optim.lr=1e-4").overrides == [
        "optim=adamw", "optim.lr=1e-4",
    ]
    assert Trouble("a.b", Severity.note, "It is so.").overrides == []
