"""The parameters of a search: their limits, their choices, and that they are a part of every run."""

from __future__ import annotations

import pytest

from fulgurite.config.check_value import check
from fulgurite.config.compose import compose
from fulgurite.config.schema import list_knobs
from fulgurite.config.sweep import Goal, Pruner, Sampler, Sweep
from fulgurite.errors import ConfigError

KNOBS = {knob.name: knob for knob in list_knobs(Sweep)}


def test_a_search_minimizes_the_validation_loss_unless_it_is_given_otherwise() -> None:
    assert (Sweep().metric, Sweep().goal, Sweep().trial) == ("val/loss", Goal.minimize, None)
    run = compose(["sweep.sampler=random", "sweep.pruner=none", "sweep.goal=maximize", "sweep.knobs=optim.lr"]).run
    found = run.sweep
    assert (found.sampler, found.pruner, found.goal, found.knobs) == (
        Sampler.random, Pruner.none, Goal.maximize, ["optim.lr"],
    )


@pytest.mark.parametrize("name", ["trials", "at_once", "keep"])
def test_counts_are_at_least_1(name: str) -> None:
    check(KNOBS[name], 1)
    with pytest.raises(ConfigError, match=f"{name}=0 is not allowed: it must be at least 1"):
        check(KNOBS[name], 0)


@pytest.mark.parametrize(("word", "choices"), [
    ("sweep.sampler=grid", "tpe, random"), ("sweep.pruner=best", "median, hyperband, none"),
    ("sweep.goal=less", "minimize, maximize"),
])
def test_another_choice_is_refused_with_those_that_there_are(word: str, choices: str) -> None:
    with pytest.raises(ConfigError, match=f"{word} is not allowed: it must be one of {choices}"):
        compose([word])
