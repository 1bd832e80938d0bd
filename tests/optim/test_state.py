"""What each optimizer keeps: restored bit for bit through the checkpoint's codec, and exactly of the declared size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any

import pytest
import torch
from tests.optim.nets import Wide, config, made, saved, steps
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from fulgurite.config.run import load_options
from fulgurite.config.schema import build, list_options
from fulgurite.optim.param_groups import find_hidden_matrices
from fulgurite.plan.context import ModelFacts, Weights
from fulgurite.plan.memory import count_scratch
from fulgurite.precision import rounding
from fulgurite.precision.config import Fp32, PureBf16, Rounding

load_options()
NAMES = sorted(list_options("optim"))
BF16 = [name for name in NAMES if name != "schedule_free"]  # refused, see test_refusals.py


def tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            if key not in ("qmap1", "qmap2"):  # bitsandbytes' code values: one table of each for all parameters
                yield from tensors(item)
    elif hasattr(value, "ortho_matrix"):
        yield value.ortho_matrix


@pytest.mark.parametrize(
    ("name", "dtype"), [*((n, torch.float32) for n in NAMES), *((n, torch.bfloat16) for n in BF16)],
    ids=[*(f"{n}-fp32" for n in NAMES), *(f"{n}-bf16" for n in BF16)],
)
@pytest.mark.parametrize("stop", [1, 4])
def test_restored_state_gives_the_uninterrupted_steps_bit_for_bit(name: str, dtype: torch.dtype, stop: int) -> None:
    whole, optimizer = made(name, dtype)
    steps(whole, optimizer, 0, 8)
    first, early = made(name, dtype)
    steps(first, early, 0, stop)
    state = saved(early)
    second, late = made(name, dtype)
    second.load_state_dict(first.state_dict())
    late.load_state_dict(state)
    torch.manual_seed(77)  # whatever is drawn must not come from here
    steps(second, late, stop, 8)
    for a, b in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(tensors(saved(optimizer)), tensors(saved(late)), strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
    fresh = Wide(dtype)
    assert (
        all(not torch.equal(a, b) for a, b in zip(whole.parameters(), fresh.parameters(), strict=True))
        or name == "badam"
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", NAMES)
def test_the_state_has_the_declared_size_exactly(name: str, dtype: torch.dtype) -> None:
    net, optimizer = made(name, dtype)
    steps(net, optimizer, 0, 1)
    declared, hidden = config(name), find_hidden_matrices(net)
    assert optimizer.state
    for parameter in net.parameters():
        if name == "badam" and parameter not in optimizer.state:
            continue
        live = sum(t.nbytes for t in tensors(optimizer.state[parameter]))
        inside = id(parameter) in hidden
        assert live == declared.state_bytes(tuple(parameter.shape), dtype.itemsize, hidden=inside), tuple(  # type: ignore[attr-defined]
            parameter.shape
        )


@pytest.mark.parametrize("name", NAMES)
def test_the_whole_state_at_its_most_is_the_declared_total(name: str) -> None:
    net, optimizer = made(name)
    most = 0
    for step in range(8):  # badam visits four blocks, two steps each
        steps(net, optimizer, step, step + 1)
        most = max(most, sum(t.nbytes for state in optimizer.state.values() for t in tensors(state)))
    shapes = {n: tuple(p.shape) for n, p in net.named_parameters()}
    inside = {n for n, p in net.named_parameters() if id(p) in find_hidden_matrices(net)}
    assert most == config(name).total_state_bytes(shapes, 4, inside)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["adamw", "sgd", "adafactor", "lion", "muon", "adamw_8bit", "apollo", "adam_mini"])
def test_a_parameter_that_learns_later_steps_as_if_it_began_then(name: str) -> None:
    """Gradual unfreezing gives first gradients at different steps."""
    late, one = made(name)
    fresh, two = made(name)
    for step in range(4):
        for net, optimizer in ((late, one), (fresh, two)):
            for n, parameter in net.named_parameters():
                generator = torch.Generator().manual_seed(step)
                begins = net is fresh or n != "layers.1.weight" or step >= 2
                parameter.grad = torch.randn(parameter.shape, generator=generator) if begins else None
            if net is late or step >= 2:
                optimizer.step()
    assert torch.equal(late.layers[1].weight, fresh.layers[1].weight)
    assert not torch.equal(late.layers[0].weight, fresh.layers[0].weight)


def most_held(step: Callable[[], object]) -> int:
    """The most bytes that torch held during the second of two steps beyond those from before it, by its profiler.

    The first is watched as well, or the profiler would not know what the second gives back.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
        with record_function("second"):
            step()
    events = seen.profiler.kineto_results.events()
    began = next(event.start_ns() for event in events if event.name() == "second")
    made = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    before = sum(size for when, size in made if when < began)
    held = list(accumulate((size for _, size in made), initial=0))
    return max(held[sum(when < began for when, _ in made) :]) - before


@pytest.mark.parametrize(
    ("name", "kind"),
    [*((n, "fp32") for n in NAMES), *((n, "bf16") for n in BF16), *((n, "rounded") for n in NAMES if config(n).alone)],  # type: ignore[attr-defined]
)
def test_a_step_takes_the_declared_bytes_while_it_lasts(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = config(name)
    monkeypatch.setattr(rounding, "PIECE", 1 << 12)  # small beside the weight, as it is in a real model
    monkeypatch.setattr(rounding, "SAMPLE", 1 << 12)
    dtype = torch.float32 if kind == "fp32" else torch.bfloat16
    net = nn.ModuleDict(
        {"embed": nn.Embedding(4096, 256, dtype=dtype), "layers": nn.ModuleList([nn.Linear(256, 64, dtype=dtype)])}
    )
    optimizer = build(chosen, net)
    if kind == "rounded":
        optimizer = rounding.RoundedOptimizer(optimizer, Rounding.stochastic, 0)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    weight = Weights("embed.weight", (4096, 256), kind="embedding", trained=True)
    facts = ModelFacts(tensors=[weight], trained_dtype=str(dtype).removeprefix("torch."))
    precision = {
        "fp32": Fp32(),
        "bf16": PureBf16(rounding=Rounding.nearest),
        "rounded": PureBf16(rounding=Rounding.stochastic),
    }
    held, declared = most_held(optimizer.step), count_scratch(chosen, precision[kind], facts)  # type: ignore[arg-type]
    assert held / math.prod(weight.shape) == pytest.approx(declared / math.prod(weight.shape), abs=0.6)
