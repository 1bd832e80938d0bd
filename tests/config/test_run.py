"""The whole configuration of a run: its groups, its parameters, and what follows from several of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields

import pytest

from fulgurite.config.compose import compose
from fulgurite.config.run import EARLIER, GROUPS, OWN, SEVERAL, RunConfig, list_all_knobs, load_options
from fulgurite.config.schema import list_groups, list_options


def test_a_run_has_a_field_for_each_group_and_each_part_of_its_own() -> None:
    names = [field.name for field in fields(RunConfig)]
    assert names[:len(GROUPS)] == list(GROUPS)
    assert set(OWN) <= set(names)
    assert {name: type(getattr(RunConfig(), name)) for name in OWN} == OWN


def test_every_group_has_options_and_earlier_runs_had_options_that_there_are() -> None:
    load_options()
    assert set(GROUPS) <= set(list_groups())
    for group, chosen in EARLIER.items():
        for option in chosen.values() if group in SEVERAL else [chosen]:
            assert option["option"] in list_options(group)


def test_all_parameters_are_listed_once_for_each_option() -> None:
    counts = Counter((knob.path, knob.option) for knob in list_all_knobs())
    assert set(counts.values()) == {1}
    assert {("optim.lr", "adamw"), ("seed", ""), ("sweep.trials", ""), ("logger.wandb.project", "wandb")} <= set(counts)


@pytest.mark.parametrize(("words", "size"), [([], 1), (["trainer.devices=2"], 2),
    (["trainer.devices=2", "trainer.num_nodes=3"], 6)])
def test_the_processes_of_a_run_are_devices_times_machines(words: list[str], size: int) -> None:
    assert compose(words).run.world_size == size


def test_only_dp_sgd_is_private() -> None:
    assert not compose().run.private
    assert compose(["privacy=dp_sgd"]).run.private
