"""A net with every kind of parameter, and its weights after each step of an optimizer under fixed gradients."""

from __future__ import annotations

import torch
from torch import nn

from fulgurite.config.compose import compose
from fulgurite.config.schema import Option, build


class Net(nn.Module):
    """A matrix that decays; an embedding, a norm and a bias that do not."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.embed, self.linear, self.norm = nn.Embedding(7, 4), nn.Linear(4, 3), nn.LayerNorm(3)


def compose_optim(*words: str) -> Option:
    config: Option = compose(["model=tiny", *words]).run.optim
    return config


def record_steps(*words: str, steps: int = 3) -> tuple[dict[str, list[torch.Tensor]], dict[str, list[torch.Tensor]]]:
    """The weights after each step under fixed gradients, and those gradients."""
    net = Net()
    optimizer = build(compose_optim(*words), net)
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
