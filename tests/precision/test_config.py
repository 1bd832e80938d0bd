"""The declarations of compute types: dtypes by name, and how steps are rounded into bf16."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from fulgurite.config.compose import compose
from fulgurite.config.facts import Facts
from fulgurite.config.resolve import fill_run
from fulgurite.config.run import load_options
from fulgurite.config.schema import list_options
from fulgurite.errors import ConfigError
from fulgurite.plan.preflight import refuse_impossible
from fulgurite.precision.config import WIDTH, Bf16, Precision, PureBf16, Rounding

load_options()
PRECISIONS: dict[str, type[Precision]] = list_options("precision")  # type: ignore[assignment]
RUN = compose(["model=tiny", "method=full"]).run


def test_an_optimizer_that_does_not_step_alone_is_refused_or_rounds_to_the_nearest() -> None:
    words = ["model=tiny", "method=full", "precision=pure_bf16", "optim=muon"]
    with pytest.raises(ConfigError, match=r"precision\.rounding=kahan needs an optimizer that updates each parameter"):
        refuse_impossible(compose([*words, "precision.rounding=kahan"]).run)
    assert compose(words).run.precision.rounding == "nearest"
    assert compose(words[:-1]).run.precision.rounding == "stochastic"


@pytest.mark.parametrize("name", sorted(WIDTH))
def test_declared_width_is_that_of_torchs_dtype(name: str) -> None:
    assert WIDTH[name] == getattr(torch, name).itemsize


@pytest.mark.parametrize("name", [name for name, option in PRECISIONS.items() if not option.chosen_by_device])
def test_declared_dtypes_agree_with_lightnings_name(name: str) -> None:
    """A mixed type trains in float32 and computes in 16 bits; a true one has one dtype for everything."""
    option = PRECISIONS[name]
    bits, _, kind = option.lightning.partition("-")
    compute = {"32": "float32", "16": "float16", "bf16": "bfloat16"}[bits]
    trained = "float32" if kind == "mixed" else compute
    assert (option.frozen, option.compute) == (compute, compute)
    assert option.trained == option.gradients == option.state == trained
    assert option.low_weights == (trained == "bfloat16")
    assert option.scales_loss == (compute == "float16")


@pytest.mark.parametrize("optim", sorted(list_options("optim")))
def test_empty_rounding_is_stochastic_for_optimizers_that_step_each_parameter_by_itself(optim: str) -> None:
    run = dataclasses.replace(RUN, precision=PureBf16(), optim=list_options("optim")[optim]())
    alone = run.optim.alone
    assert fill_run(run, Facts())[0].precision.rounding == ("stochastic" if alone else "nearest")
    for rounding in (Rounding.stochastic, Rounding.kahan):
        refusal = PureBf16(rounding=rounding).find_refusal(run)
        assert (refusal is None) == alone
    assert PureBf16(rounding=Rounding.nearest).find_refusal(run) is None
    assert Bf16().step_rounding() is None
