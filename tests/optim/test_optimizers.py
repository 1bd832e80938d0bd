"""Each optimizer's step against its formula written out, what decays, and its state through a save."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from fulgurite.compose import compose
from fulgurite.optim.rates import recommend, usual
from fulgurite.run import Facts, load_options
from fulgurite.schema import Option, build, options


class Net(nn.Module):
    """A matrix that decays; an embedding, a norm and a bias that do not."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.embed, self.linear, self.norm = nn.Embedding(7, 4), nn.Linear(4, 3), nn.LayerNorm(3)


def option(*words: str) -> Option:
    config: Option = compose(["model=tiny", *words]).run.optim
    return config


def stepped(*words: str, steps: int = 3) -> tuple[dict[str, list[torch.Tensor]], dict[str, list[torch.Tensor]]]:
    """The weights after each step under fixed gradients, and those gradients."""
    net = Net()
    optimizer = build(option(*words), net)
    generator = torch.Generator().manual_seed(2)
    weights = {n: [p.detach().clone()] for n, p in net.named_parameters()}
    gradients: dict[str, list[torch.Tensor]] = {n: [] for n in weights}
    for _ in range(steps):
        for name, parameter in net.named_parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
            gradients[name].append(parameter.grad.clone())
        optimizer.step()
        for name, parameter in net.named_parameters():
            weights[name].append(parameter.detach().clone())
    return weights, gradients


def test_every_optimizer_is_in_this_file() -> None:
    load_options()
    assert sorted(options("optim")) == ["adafactor", "adamw", "sgd"]


def test_adamw_is_the_papers_formula() -> None:
    lr, wd, eps, (b1, b2) = 0.01, 0.1, 1e-6, (0.8, 0.95)
    knobs = [f"optim.lr={lr}", f"optim.weight_decay={wd}", f"optim.eps={eps}", f"optim.betas=[{b1},{b2}]"]
    weights, gradients = stepped("optim=adamw", *knobs)
    for name, path in weights.items():
        w, m, v = path[0].clone(), torch.zeros_like(path[0]), torch.zeros_like(path[0])
        decay = wd if name == "linear.weight" else 0.0  # never norms, biases or embeddings
        for t, g in enumerate(gradients[name], 1):
            w = w - lr * decay * w
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
            w = w - lr * (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + eps)
            torch.testing.assert_close(path[t], w, rtol=1e-5, atol=1e-7)


def test_sgd_is_heavy_ball() -> None:
    lr, momentum, wd = 0.05, 0.7, 0.2
    weights, gradients = stepped("optim=sgd", f"optim.lr={lr}", f"optim.momentum={momentum}", f"optim.weight_decay={wd}")
    for name, path in weights.items():
        w, buffer = path[0].clone(), torch.zeros_like(path[0])
        decay = wd if name == "linear.weight" else 0.0
        for t, g in enumerate(gradients[name], 1):
            whole = g + decay * w
            buffer = whole if t == 1 else momentum * buffer + whole
            w = w - lr * buffer
            torch.testing.assert_close(path[t], w, rtol=1e-5, atol=1e-7)


def test_adafactor_is_the_papers_formula() -> None:
    lr, wd, decay, threshold, floor = 0.02, 0.1, -0.7, 1.0, 1e-3
    words = [f"optim.lr={lr}", f"optim.weight_decay={wd}", f"optim.beta2_decay={decay}", f"optim.clip_threshold={threshold}"]
    weights, gradients = stepped("optim=adafactor", *words)
    for name, path in weights.items():
        w, row, column, variance = path[0].clone(), 0.0, 0.0, 0.0
        for t, g in enumerate(gradients[name], 1):
            share = t**decay  # 1 - beta2 at step t
            size = max(floor, float(w.pow(2).mean().sqrt())) * min(lr, t**-0.5)
            w = w * (1 - lr * (wd if name == "linear.weight" else 0.0))
            if g.ndim > 1:
                row = (1 - share) * row + share * g.pow(2).mean(-1, keepdim=True)
                column = (1 - share) * column + share * g.pow(2).mean(-2, keepdim=True)
                estimate = row @ column / row.mean()
            else:
                variance = (1 - share) * variance + share * g.pow(2)
                estimate = variance
            update = g / estimate.sqrt()
            w = w - size * update / max(1.0, float(update.pow(2).mean().sqrt()) / threshold)
            torch.testing.assert_close(path[t], w, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "sgd", "adafactor"])
def test_state_is_restored_bit_for_bit_and_has_the_declared_size(name: str) -> None:
    config = option(f"optim={name}", "optim.lr=0.01")
    one, two = Net(), Net()
    first, second = build(config, one), build(config, two)
    for net, optimizer in ((one, first),):
        for p in net.parameters():
            p.grad = torch.ones_like(p)
        optimizer.step()
    two.load_state_dict(one.state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for net, optimizer in ((one, first), (two, second)):
        for p in net.parameters():
            p.grad = torch.full_like(p, 0.5)
        optimizer.step()
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)
    if name == "adafactor":  # rows and columns: it depends on the shapes
        assert first.state[one.linear.weight]["row_var"].shape == (3, 1)
        assert first.state[one.linear.weight]["col_var"].shape == (1, 4)
        return
    tensors = [t for s in first.state.values() for t in s.values() if isinstance(t, torch.Tensor) and t.ndim > 0]
    assert sum(t.nbytes for t in tensors) / sum(p.numel() for p in one.parameters()) == config.state_bytes  # type: ignore[attr-defined]


def test_frozen_parameters_are_left_out() -> None:
    net = Net()
    net.linear.requires_grad_(False)
    known = {id(p) for g in build(option("optim.lr=0.1"), net).param_groups for p in g["params"]}
    assert known == {id(p) for p in net.parameters() if p.requires_grad}


def test_rates_lie_inside_what_is_usual_for_their_row() -> None:
    for stage in ("pt", "sft"):
        for method in ("full", "lora"):
            for model in ("model=tiny", "model=hf"):
                run = compose([f"stage={stage}", f"method={method}", model]).run
                derived = recommend(run, Facts())
                assert usual(run).holds(derived.value), (stage, method, model)
                assert math.isclose(run.optim.lr, derived.value)
                assert derived.reason
