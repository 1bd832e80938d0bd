"""GaLore from pytorch-optimizer (Zhao et al., https://arxiv.org/abs/2403.03507), with its projections as plain state.

The library keeps an object for each matrix in its state, which only pickle could save: here it is saved as its numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pytorch_optimizer import GaLore
from pytorch_optimizer.optimizer.utils.galore import GaLoreProjector
from torch import nn
from torch.optim import Optimizer

from fulgurite.errors import ConfigError
from fulgurite.optim import config as c
from fulgurite.optim.param_groups import build_groups, find_hidden_matrices, get_trained_parameters

KNOBS = ("rank", "update_proj_gap", "scale", "projection_type")
FIELDS = ("ortho_matrix", "last_svd_step")
"""What a projector has from its group, and what it learns."""


class GaloreOptimizer(GaLore):
    """The library's steps; a projector goes through `state_dict` as its projection and its step."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """The library's. Projections come from LAPACK column by column; restored they lie row by row, and products
        differ in a bit."""
        loss = super().step(closure)
        for state in self.state.values():
            if "projector" in state:
                state["projector"].ortho_matrix = state["projector"].ortho_matrix.contiguous()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers and text alone."""
        whole: dict[str, Any] = super().state_dict()
        for number, state in whole["state"].items():
            if "projector" in state:
                whole["state"][number] = {
                    **state,
                    "projector": {name: getattr(state["projector"], name) for name in FIELDS},
                }
        return whole

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse."""
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            for state in (self.state[p] for p in group["params"] if "projector" in self.state[p]):
                saved, state["projector"] = state["projector"], GaLoreProjector(**{name: group[name] for name in KNOBS})
                for name in FIELDS:
                    setattr(state["projector"], name, saved[name])


def build(config: c.Galore, module: nn.Module) -> Optimizer:
    """The optimizer over the module's trained parameters. Raises ConfigError where no matrix is wider than the rank."""
    projected, rest = split_projected(config, module)
    low = {"rank": config.rank, "update_proj_gap": config.update_proj_gap, "scale": config.scale,
        "projection_type": "std"}
    first, second = config.betas
    optimizer: Optimizer = GaloreOptimizer(
        [*({**group, **low} for group in projected), *rest], lr=config.lr or 0.0, betas=(first, second), eps=config.eps
    )
    return optimizer


def split_projected(config: c.Projected, module: nn.Module) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The groups that are projected, and the rest. Raises ConfigError where the first would be none."""
    hidden, trained, lr = find_hidden_matrices(module), get_trained_parameters(module), config.lr or 0.0
    chosen = {id(p) for p in trained if config.projects(tuple(p.shape), id(p) in hidden)}
    if not chosen:
        widest = max((min(p.shape) for p in trained if id(p) in hidden), default=0)
        raise ConfigError(
            f"optim.rank={config.rank} leaves nothing to project: the shorter side of the model's matrices is at most "
            f"{widest}; "
            "take a smaller optim.rank, or optim=adamw."
        )
    projected = build_groups(module, config, [p for p in trained if id(p) in chosen], lr)
    return projected, build_groups(module, config, [p for p in trained if id(p) not in chosen], lr)
