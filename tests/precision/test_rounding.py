"""Rounding of steps into bf16: right on average, nothing lost with Kahan's sum, resumable bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.end_to_end.runs import copy_until, rows, tiny, weights
from torch import nn
from torch.optim import SGD, AdamW

from fulgurite.precision import rounding as rounding_module
from fulgurite.precision.config import Rounding
from fulgurite.precision.rounding import LOST, RoundedOptimizer, round_stochastically


def test_stochastic_rounding_is_right_on_average_and_never_further_than_a_neighbour() -> None:
    generator = torch.Generator().manual_seed(3)
    for value in (1.001, -0.3333, 1e-6, 300.7):
        x = torch.full((200_000,), value)
        rounded = round_stochastically(x, generator).float()
        low, high = rounded.unique().tolist()
        assert low < value < high
        assert torch.nextafter(torch.tensor(low).bfloat16(), torch.tensor(high).bfloat16()).item() == high
        chance = (value - low) / (high - low)  # of the upper neighbour
        seen = float((rounded == high).double().mean())
        assert seen == pytest.approx(chance, abs=5 * (chance * (1 - chance) / 200_000) ** 0.5)
    exact = torch.tensor([1.0, -2.5, 0.0])
    assert torch.equal(round_stochastically(exact, generator).float(), exact)


def test_in_pieces_the_chances_are_those_drawn_at_once_and_no_temporary_is_larger(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The formula on whole tensors gives the same bits; the largest number of entries drawn at once is PIECE."""
    x = torch.randn(77, 131, generator=torch.Generator().manual_seed(1))
    chance = torch.randint(0, 1 << 16, x.shape, generator=torch.Generator().manual_seed(5), dtype=torch.int32)
    whole = ((x.view(torch.int32) + chance) & -65536).view(torch.float32).bfloat16()
    draw, drawn = torch.randint, []

    def noted(low: int, high: int, size: torch.Size, **more: Any) -> torch.Tensor:
        drawn.append(size.numel())
        return draw(low, high, size, **more)

    monkeypatch.setattr(rounding_module, "PIECE", 1000)
    monkeypatch.setattr(torch, "randint", noted)
    assert torch.equal(round_stochastically(x, torch.Generator().manual_seed(5)), whole)
    assert max(drawn) == 1000
    assert sum(drawn) == x.numel()


def stepped(rounding: Rounding, steps: int, rate: float) -> tuple[torch.Tensor, RoundedOptimizer]:
    torch.manual_seed(0)
    weight = nn.Parameter((torch.randn(5000) * 0.02).bfloat16())
    optimizer = RoundedOptimizer(SGD([weight], lr=rate), rounding, seed=1)
    for _ in range(steps):
        weight.grad = torch.ones_like(weight)
        optimizer.step()
    return weight.detach().float(), optimizer


def test_small_steps_vanish_to_the_nearest_and_not_otherwise() -> None:
    # 400 steps of 1e-6 on weights of 0.02: each is below half of a bf16 step there (about 6e-5)
    torch.manual_seed(0)
    start = (torch.randn(5000) * 0.02).bfloat16().float()
    expected = start - 400 * 1e-6
    moved = {}
    for rounding in Rounding:
        weight, optimizer = stepped(rounding, 400, 1e-6)
        moved[rounding] = weight
        assert optimizer.unchanged > 0.95  # a step is 1 / 60 of a neighbour's distance, so few weights move in any one
    large = start.abs() > 0.01
    assert torch.equal(moved[Rounding.nearest][large], start[large])
    # kahan: as near as bf16 can be; by chance: right in the mean
    ulp = 2.0 ** (torch.floor(torch.log2(expected.abs())) - 7)
    assert bool(((moved[Rounding.kahan] - expected).abs() <= 0.6 * ulp)[large].all())
    assert float((moved[Rounding.stochastic] - start).mean()) == pytest.approx(-400e-6, rel=0.03)


@pytest.mark.parametrize("rounding", [Rounding.kahan, Rounding.stochastic])
def test_the_arithmetic_is_that_of_float32(rounding: Rounding) -> None:
    """One AdamW step on bf16 weights is the float32 step of the same weights, rounded once."""
    torch.manual_seed(1)
    low = [nn.Parameter(torch.randn(40, 30).bfloat16()), nn.Parameter(torch.randn(30).bfloat16())]
    high = [nn.Parameter(p.detach().float()) for p in low]
    ours = RoundedOptimizer(AdamW(low, lr=1e-2, weight_decay=0.1), rounding, 1)
    theirs = AdamW(high, lr=1e-2, weight_decay=0.1)
    for a, b in zip(low, high, strict=True):
        a.grad = torch.randn_like(a)
        b.grad = a.grad.float()
    ours.step()
    theirs.step()
    for a, b in zip(low, high, strict=True):
        assert a.dtype == torch.bfloat16
        ulp = 2.0 ** (torch.floor(torch.log2(b.detach().abs())) - 7)
        share = 0.5 if rounding is Rounding.kahan else 1.0
        assert bool(((a.detach().float() - b.detach()).abs() <= share * ulp * 1.001).all())
        if rounding is Rounding.kahan:
            torch.testing.assert_close(
                a.detach().float() + ours.state[a][LOST].float(), b.detach(), rtol=2e-5, atol=1e-7
            )
        assert ours.state[a]["exp_avg_sq"].dtype == torch.bfloat16


@pytest.mark.parametrize("rounding", list(Rounding))
@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_run_resumes_bit_for_bit_and_logs_the_share_of_unchanged_weights(
    tmp_path: Path, rounding: Rounding, method: str
) -> None:
    words = [
        f"method={method}",
        "precision=pure_bf16",
        f"precision.rounding={rounding}",
        "optim.lr=1e-4",
        "trainer.save_every=2",
    ]
    words += ["trainer.keep_checkpoints=5", "scheduler=constant"]
    whole = tiny(tmp_path / "whole", *words, "trainer.max_steps=4")
    part = tiny(copy_until(whole, tmp_path / "part", 2), *words, "trainer.max_steps=4")
    assert rows(part) == rows(whole)
    for name, tensor in weights(whole).items():
        assert tensor.dtype == torch.bfloat16
        assert torch.equal(weights(part)[name], tensor), name
    shares = [row["train/unchanged"] for row in rows(whole) if "train/loss" in row]
    assert len(shares) == 4
    if method == "full":
        assert all(0.01 < share < 0.99 for share in shares)


def test_at_a_small_rate_nearest_leaves_most_weights_unchanged(tmp_path: Path) -> None:
    words = ["method=full", "precision=pure_bf16", "optim.lr=1e-6", "scheduler=constant", "trainer.max_steps=3"]
    shares = {}
    for rounding in ("nearest", "stochastic"):
        found = rows(tiny(tmp_path / rounding, *words, f"precision.rounding={rounding}"))
        shares[rounding] = [row["train/unchanged"] for row in found if "train/loss" in row][-1]
    assert shares["nearest"] > 0.9
    assert shares["stochastic"] < shares["nearest"]


@pytest.mark.parametrize("optim", ["adamw", "sgd", "adafactor", "lion"])
@pytest.mark.parametrize("rounding", ["stochastic", "kahan"])
def test_every_optimizer_that_steps_alone_is_rounded_and_resumes(tmp_path: Path, optim: str, rounding: str) -> None:
    words = ["method=full", "precision=pure_bf16", f"precision.rounding={rounding}", f"optim={optim}", "optim.lr=1e-3"]
    words += ["trainer.save_every=1", "trainer.keep_checkpoints=5", "scheduler=constant"]
    whole = tiny(tmp_path / "whole", *words, "trainer.max_steps=3")
    part = tiny(copy_until(whole, tmp_path / "part", 2), *words, "trainer.max_steps=3")
    assert rows(part) == rows(whole)
    for name, tensor in weights(whole).items():
        assert torch.equal(weights(part)[name], tensor), name
