"""The declarations of layerwise: when layers cannot thaw one by one."""

from __future__ import annotations

import dataclasses

import pytest
from tests.method.models import UNFREEZE, compose_run

from fulgurite.config.run import load_options
from fulgurite.config.schema import list_options
from fulgurite.errors import ConfigError
from fulgurite.method.config import Layerwise
from fulgurite.plan.preflight import refuse_impossible

load_options()


@pytest.mark.parametrize(
    ("word", "says"), [("trainer.devices=2", "wait for them"), ("optim=galore", "counts steps for all of them")]
)
def test_thawing_is_refused_with_processes_and_shared_step_counts(word: str, says: str) -> None:
    run = compose_run("model=tiny", *UNFREEZE, word)
    with pytest.raises(ConfigError, match=says):
        refuse_impossible(run)
    assert Layerwise(unfreeze_every=None).find_refusal(run) is None  # without thawing it is no trouble


@pytest.mark.parametrize("optim", sorted(list_options("optim")))
def test_thawing_is_refused_for_the_optimizers_whose_parameters_start_together(optim: str) -> None:
    run = dataclasses.replace(compose_run("model=tiny", *UNFREEZE), optim=list_options("optim")[optim]())
    refused = Layerwise(unfreeze_every=2).find_refusal(run) is not None
    assert refused == (optim in ("galore", "badam", "schedule_free"))
