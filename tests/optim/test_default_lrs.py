"""The table of learning rates: its rows, size classes, factors and reasons."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from fulgurite.config.compose import compose
from fulgurite.config.confidence import Sure
from fulgurite.config.facts import Facts
from fulgurite.config.run import RunConfig, load_options
from fulgurite.config.schema import list_options
from fulgurite.optim.config import MuonScale
from fulgurite.optim.default_lrs import (
    MUON_OWN,
    TABLE,
    find_size_class,
    find_usual_adam,
    recommend,
    recommend_adam,
    row,
    usual,
)

load_options()
SIZES = {0.135: 0, 0.5: 0, 0.6: 1, 4.0: 1, 7.0: 2, 14.0: 2, 70.0: 3}
"""Billions of parameters, and the column of the table."""


@pytest.fixture(scope="module")
def base() -> RunConfig:
    return compose(["model=tiny", "stage=sft", "method=full", "scheduler=constant"]).run


def with_options(run: RunConfig, **names: str) -> RunConfig:
    """The run with other options at their defaults, and an empty rate."""
    chosen: dict[str, Any] = {group: list_options(group)[name]() for group, name in names.items()}
    return dataclasses.replace(run, **{"optim": list_options("optim")["adamw"](), **chosen})


def test_recommended_rates_are_usual_for_their_row() -> None:
    for stage in ("pt", "sft"):
        for method in ("full", "lora"):
            for model in ("model=tiny", "model=hf"):
                run = compose([f"stage={stage}", f"method={method}", model]).run
                derived = recommend(run, Facts())
                assert usual(run).has(derived.value), (stage, method, model)
                assert math.isclose(run.optim.lr, derived.value)
                assert derived.reason


@pytest.mark.parametrize(("billions", "column"), SIZES.items())
def test_size_classes_end_at_half_four_and_fourteen_billion(billions: float, column: int) -> None:
    assert find_size_class(billions) == column


def test_unknown_size_counts_as_seven_billion(base: RunConfig) -> None:
    assert find_size_class(None) == find_size_class(7.0)
    run = with_options(base, model="hf")
    assert run.model.billions() is None
    derived = recommend(run, Facts())
    assert derived.value == TABLE["sft", "full"][2].value
    assert "a model of unknown size (taken as 7B)" in str(derived.reason)


@pytest.mark.parametrize(("stage", "method", "expected"), [
    ("sft", "lora", ("sft", "lora")), ("sft", "qlora", ("sft", "lora")), ("sft", "oft", ("sft", "full")),
    ("kto", "freeze", ("kto", "full")), ("rm", "vera", ("rm", "lora")), ("nonsense", "nonsense", ("sft", "full")),
])
def test_methods_take_the_row_whose_rates_they_declare(stage: str, method: str, expected: tuple[str, str]) -> None:
    assert row(stage, method) is TABLE[expected]


def test_rates_of_the_table_are_inside_the_usual_range_of_their_size() -> None:
    outside = [
        (*key, column)
        for key, found in TABLE.items()
        for column, rate in enumerate(found)
        if not rate.usual.has(rate.value)
    ]
    assert outside == []


def test_each_value_has_a_source_of_its_own_that_shows_how_sure_it_is() -> None:
    for key, found in TABLE.items():
        for rate in found:
            assert rate.sure is not None, (key, rate.source)
    assert (TABLE["sft", "lora"][0].sure, TABLE["sft", "lora"][2].sure) == (Sure.measured, Sure.verified)
    assert compose(["model=tiny"]).provenance["optim.lr"].sure is Sure.measured
    assert compose(["model=tiny", "optim=lion"]).provenance["optim.lr"].sure is Sure.ours


def test_small_models_with_lora_take_the_rate_that_was_measured() -> None:
    """The presets have no rate of their own, so that they cannot differ from the table."""
    for preset in ("dpo_guide", "kto_guide", "grpo_answers", "ppo_length"):
        run = compose([f"+experiment={preset}"]).run
        assert run.optim.lr == 3e-4
        assert (usual(run).low, usual(run).high) == (1e-5, 5e-4)
    large = compose(["stage=dpo", "model=hf"]).run
    assert (large.optim.lr, usual(large).high) == (5e-6, 1e-5)


def test_losses_with_a_term_of_supervised_fine_tuning_may_take_its_rates() -> None:
    sigmoid, cpo = (compose(["stage=dpo", f"stage.loss={loss}", "model=hf"]).run for loss in ("sigmoid", "cpo"))
    assert (usual(sigmoid).high, usual(cpo).high) == (1e-5, 3e-4)


@pytest.mark.parametrize(("names", "factor", "named"), [
    ({}, 1, ""), ({"method": "freeze"}, 3, ", times 3 for freeze"), ({"optim": "sgd"}, 100, ", times 100 for sgd"),
    ({"optim": "lion", "method": "freeze"}, 0.9, ", times 0.9 for lion, freeze"),
])
def test_factors_of_optimizer_and_method_multiply_and_are_named(
    base: RunConfig, names: dict[str, str], factor: float, named: str
) -> None:
    run = with_options(base, **names)
    derived, span = recommend(run, Facts()), TABLE["sft", "full"][0].usual
    assert derived.value == pytest.approx(min(1e-4 * factor, 1))
    assert f"parameters{named}: " in str(derived.reason)
    assert span.low is not None
    assert span.high is not None
    assert (usual(run).low, usual(run).high) == pytest.approx((span.low * factor, span.high * factor))


def test_no_usual_range_ends_above_one(base: RunConfig) -> None:
    run = with_options(base, method="vera", optim="sgd")
    assert usual(run).high == 1.0  # 2e-3 x 100 x 5
    assert recommend(run, Facts()).value == pytest.approx(0.5)  # 1e-3 x 100 x 5


def test_muons_own_scale_takes_its_rate_and_adams_for_the_rest(base: RunConfig) -> None:
    optim = list_options("optim")["muon"]
    own = dataclasses.replace(base, optim=optim(scale=MuonScale.own, lr=0.02))  # type: ignore[call-arg]
    assert recommend(own, Facts()) is MUON_OWN
    assert recommend_adam(own, Facts()).value == 1e-4
    assert find_usual_adam(own) == usual(base)
    matched = dataclasses.replace(base, optim=optim(scale=MuonScale.rms, lr=3e-4))  # type: ignore[call-arg]
    assert recommend_adam(matched, Facts()).value == 3e-4
