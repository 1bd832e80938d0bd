"""The parameters of the learning rate range test: their limits, and that it is off unless it is asked for."""

from __future__ import annotations

import pytest

from fulgurite.config.check_value import check
from fulgurite.config.lr_finder import LrFinder
from fulgurite.config.schema import list_knobs
from fulgurite.errors import ConfigError

KNOBS = {knob.name: knob for knob in list_knobs(LrFinder)}


def test_it_is_off_by_default_and_its_rates_follow_from_the_run_s() -> None:
    found = LrFinder()
    assert (found.enabled, found.min_lr, found.max_lr) == (False, None, None)


@pytest.mark.parametrize(("name", "inside", "outside"), [
    ("steps", [20, 10_000], [19, 10_001]), ("min_lr", [1e-9, 1.0, None], [0.0, 1.1]),
    ("max_lr", [1e-9, 100.0, None], [0.0, 101.0]),
])
def test_the_limits_of_steps_and_rates(name: str, inside: list[float | None], outside: list[float]) -> None:
    for value in inside:
        check(KNOBS[name], value)
    for value in outside:
        with pytest.raises(ConfigError, match=rf"{name}=.* is not allowed"):
            check(KNOBS[name], value)
