"""Twelve steps give the losses on file. Where this fails and nothing was meant to change numbers, something did."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.numerics.golden import CASES, FALLING, FILE, STEPS, losses_of, machine

GOLDEN = json.loads(FILE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES)
def test_the_losses_are_those_on_file(case: str, tmp_path: Path) -> None:
    found, expected = losses_of(case, tmp_path), GOLDEN["losses"][case]
    assert len(expected) == STEPS + 1
    # a rollout's loss may be 0
    assert found == pytest.approx(expected, rel=1e-6, abs=0 if CASES[case][0] in FALLING else 1e-6)
    if machine() == GOLDEN["machine"]:
        assert found == expected


def test_the_file_holds_losses_that_fall_and_differ() -> None:
    assert set(GOLDEN["losses"]) == set(CASES)
    for case, values in GOLDEN["losses"].items():
        assert values[STEPS - 1] < values[0] or CASES[case][0] not in FALLING
    assert len({tuple(values) for values in GOLDEN["losses"].values()}) == len(CASES)
