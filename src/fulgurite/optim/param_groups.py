"""Builds parameter groups by weight decay and by each parameter's own factor on the learning rate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.optim import Optimizer
from transformers import PreTrainedModel

from fulgurite.model.peft_internals import is_adapter_layer, list_adapter_parameters
from fulgurite.optim.config import Decay, Optim

SCALE = "rate_scale"
"""The key of a parameter group's factor on `optim.lr`; Lightning, schedules and checkpoints keep it."""


def scale_rate(parameter: nn.Parameter, factor: float) -> None:
    """Makes every optimizer update this parameter at `factor` times `optim.lr`. Factors multiply; call it before the
    optimizer is built.

    The factor is the attribute `lr_scale` of the Parameter, which `Module.to` keeps and a new Parameter does not.
    """
    parameter.lr_scale = get_rate_scale(parameter) * factor  # type: ignore[attr-defined]


def get_rate_scale(parameter: nn.Parameter) -> float:
    """Returns the parameter's factor on `optim.lr`: 1.0 unless `scale_rate` set another."""
    return float(getattr(parameter, "lr_scale", 1.0))


def get_trained_parameters(module: nn.Module) -> list[nn.Parameter]:
    """Returns the parameters that the optimizer updates, each once, in the module's order."""
    return [p for p in module.parameters() if p.requires_grad]


def find_embeddings(module: nn.Module) -> set[int]:
    """Returns the ids of embedding weights, by the module's class, not its name; a tied head is its embedding."""
    return {id(p) for m in module.modules() if isinstance(m, nn.Embedding) for p in m.parameters(recurse=False)}


def find_hidden_matrices(module: nn.Module) -> set[int]:
    """Returns the ids of the matrices inside the model: not embeddings, heads, adapters' factors, or matrices of one
    row or column."""
    outside = find_embeddings(module)
    for part in module.modules():
        if isinstance(part, PreTrainedModel) and (head := part.get_output_embeddings()) is not None:
            # By identity, because a head that is tied to the embedding is the same Parameter under another name.
            outside |= {id(p) for p in head.parameters()}
        if is_adapter_layer(part):
            outside |= {id(p) for p in list_adapter_parameters(part)}
    return {id(p) for p in module.parameters() if p.ndim == 2 and min(p.shape) > 1 and id(p) not in outside}


def build_decay_groups(module: nn.Module, config: Optim) -> list[dict[str, Any]]:
    """Builds parameter groups of the module's trained parameters, each with `lr`, `weight_decay` and its rate scale.

    Groups of factor 1 come first, and those that decay before those that do not; empty groups are left out.
    """
    return build_groups(module, config, get_trained_parameters(module), config.lr or 0.0)


def build_groups(
    module: nn.Module, config: Optim, parameters: Iterable[nn.Parameter], lr: float
) -> list[dict[str, Any]]:
    """Builds groups as `build_decay_groups` does, of some of the module's parameters, at `lr` times each one's
    factor."""
    spared = find_embeddings(module)
    sorts: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for parameter in parameters:
        # Usual practice: matrices decay; biases, norms and embeddings do not.
        decays = config.weight_decay_on is Decay.all or not (parameter.ndim < 2 or id(parameter) in spared)
        sorts.setdefault((get_rate_scale(parameter), decays), []).append(parameter)
    base = config.lr or 0.0
    return [
        {
            "params": sorts[factor, decays], "lr": lr * factor, "weight_decay": config.weight_decay if decays else 0.0,
            # The rate of the group relative to `optim.lr`, which `get_base_rate` divides out again.
            SCALE: factor * (lr / base if base else 1.0),
        }
        # A fixed order: the groups of a checkpoint are matched by position.
        for factor, decays in sorted(sorts, key=lambda sort: (sort[0] != 1.0, sort[0], not sort[1]))
    ]


def get_base_rate(optimizer: Optimizer) -> float:
    """Returns the current rate of a parameter whose factor is 1, even if there is none."""
    for group in optimizer.param_groups:
        if group.get(SCALE, 1.0) == 1.0:
            return float(group["lr"])
    first = optimizer.param_groups[0]
    return float(first["lr"]) / first[SCALE] if first[SCALE] else 0.0

