"""The declared bytes, rates and refusals of optimizers that treat matrices or blocks in a way of their own."""

from __future__ import annotations

import dataclasses

import pytest
from tests.optim.nets import Wide

from fulgurite.config.compose import compose
from fulgurite.config.run import RunConfig
from fulgurite.config.schema import list_options
from fulgurite.optim.config import AdamMini, Apollo, Badam, Galore, Muon, MuonScale, Optim, ScheduleFree
from fulgurite.optim.param_groups import find_hidden_matrices

MILLION = (1024, 1024)


@pytest.fixture(scope="module")
def run() -> RunConfig:
    """A run that every optimizer accepts."""
    return compose(["model=tiny", "method=full", "scheduler=constant", "precision=fp32"]).run


@pytest.mark.parametrize(("config", "size"), [
    (Muon(), 4 * 2**20),
    (ScheduleFree(), 8 * 2**20),
    (Galore(rank=8), 8 * (2 + 1) * 1024 * 4),  # two moments of 8 x 1024, and the projection
    (Apollo(rank=8), 8 * 2 * 1024 * 4 + 4),  # two moments of 8 x 1024, and a norm
    (Badam(), 8 * 2**20 + 4),
    (AdamMini(), 4 * 2**20 + 4 * 1024),  # a mean, and a variance for each row
], ids=lambda value: type(value).__name__ if isinstance(value, Optim) else "")
def test_bytes_of_a_matrix_of_a_million_numbers(config: Optim, size: int) -> None:
    assert config.state_bytes(MILLION, 4) == size


def test_muon_keeps_adams_state_outside_the_model_and_for_single_rows() -> None:
    adam = 8 * 64 + 4
    assert Muon().state_bytes((8, 8), 4) == 4 * 64
    assert Muon().state_bytes((8, 8), 4, hidden=False) == adam
    assert Muon().state_bytes((1, 64), 4) == Muon().state_bytes((64,), 4) == adam


@pytest.mark.parametrize("config", [Galore(rank=8), Apollo(rank=8)], ids=["galore", "apollo"])
def test_matrices_wider_than_the_rank_are_projected_and_no_others(config: Galore | Apollo) -> None:
    assert config.projects((9, 100), hidden=True)
    assert config.projects((100, 9), hidden=True)
    assert not config.projects((8, 100), hidden=True)
    assert not config.projects((9, 100), hidden=False)
    assert not config.projects((100,), hidden=True)
    whole = 8 * 8 * 100 + (4 if config.name == "apollo" else 0)
    assert config.state_bytes((8, 100), 4) == whole
    # of 9 x 100, moments of 8 x 100, and a projection of 8 x 9 or a norm
    assert config.state_bytes((9, 100), 4) == 4 * 2 * 800 + (4 * 72 if config.name == "galore" else 4)


def test_adam_mini_keeps_one_variance_for_a_vector() -> None:
    assert AdamMini().state_bytes((10, 3), 2) == 2 * 30 + 4 * 10
    assert AdamMini().state_bytes((7,), 4) == 4 * 7 + 4


def test_badams_declared_total_is_that_of_the_largest_block() -> None:
    net = Wide()
    shapes = {n: tuple(p.shape) for n, p in net.named_parameters()}
    inside = {n for n, p in net.named_parameters() if id(p) in find_hidden_matrices(net)}
    # the layers: 64 x 80 weights, and 80 or 64 biases; two fp32 moments and a count for each of the two tensors
    assert Badam().total_state_bytes(shapes, 4, inside) == 2 * 4 * (64 * 80 + 80) + 2 * 4
    assert Badam().total_state_bytes({}, 4, set()) == 0


def test_muons_own_scale_has_a_rate_of_its_own() -> None:
    assert Muon(scale=MuonScale.rms).own_rate() is None
    found = Muon(scale=MuonScale.own).own_rate()
    assert found is not None
    rate, usual = found
    assert rate.value == 0.02
    assert usual.has(rate.value)


@pytest.mark.parametrize("name", ["muon", "galore", "apollo", "badam"])
def test_adapters_are_refused_by_optimizers_of_whole_matrices(run: RunConfig, name: str) -> None:
    optim: Optim = list_options("optim")[name]()  # type: ignore[assignment]
    assert optim.find_refusal(run) is None
    refusal = optim.find_refusal(dataclasses.replace(run, method=list_options("method")["lora"]()))
    assert refusal is not None
    assert str(refusal).startswith(f"optim={name} cannot be used with method=lora: ")


def test_schedule_free_refuses_a_falling_rate_and_low_weights(run: RunConfig) -> None:
    optim = ScheduleFree()
    assert optim.find_refusal(run) is None
    falling = optim.find_refusal(dataclasses.replace(run, scheduler=list_options("scheduler")["linear"]()))
    assert falling is not None
    assert "scheduler=linear would lower it as well; use scheduler=constant_with_warmup." in str(falling)
    low = optim.find_refusal(dataclasses.replace(run, precision=list_options("precision")["pure_bf16"]()))
    assert low is not None
    assert "weights of precision=pure_bf16 round them away; use precision=bf16." in str(low)


def test_badam_refuses_several_processes() -> None:
    run = compose(["model=tiny", "optim=badam", "method=full", "trainer.devices=2"]).run
    refusal = run.optim.find_refusal(run)
    assert refusal is not None
    assert str(refusal).startswith(
        "optim=badam cannot be used with 2 processes: they would wait for gradients of blocks that are not trained"
    )
