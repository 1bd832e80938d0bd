"""GaLore from pytorch-optimizer (Zhao et al., https://arxiv.org/abs/2403.03507), with its projections as plain state.

The library keeps an object for each matrix in its state, which only pickle could save; here its numbers are saved.
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
"""What a projector gets from its group (KNOBS), and what it computes (FIELDS)."""


class GaloreOptimizer(GaLore):
    """The library's optimizer, whose `state_dict` contains the projection and the step of each projector."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Steps as the library does. Makes projections contiguous: LAPACK returns them by column, a restored one is by
        row, and the two would differ in the last bit of a product."""
        loss = super().step(closure)
        for state in self.state.values():
            if "projector" in state:
                state["projector"].ortho_matrix = state["projector"].ortho_matrix.contiguous()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Returns the state as tensors, numbers and text."""
        whole: dict[str, Any] = super().state_dict()
        for number, state in whole["state"].items():
            if "projector" in state:
                # A new dictionary: the live state keeps its projector object.
                whole["state"][number] = {
                    **state,
                    "projector": {name: getattr(state["projector"], name) for name in FIELDS},
                }
        return whole

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads what `state_dict` returned."""
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            # Only groups with a rank have projectors.
            for state in (self.state[p] for p in group["params"] if "projector" in self.state[p]):
                # The settings come from the group, which holds this run's config; only what was computed is restored.
                saved, state["projector"] = state["projector"], GaLoreProjector(**{name: group[name] for name in KNOBS})
                for name in FIELDS:
                    setattr(state["projector"], name, saved[name])


def build(config: c.Galore, module: nn.Module) -> Optimizer:
    """Builds the optimizer over the module's trained parameters. Raises ConfigError if no matrix is wider than the
    rank."""
    projected, rest = split_projected(config, module)
    # The library reads these from the group: a group without a rank is stepped as plain AdamW.
    low = {"rank": config.rank, "update_proj_gap": config.update_proj_gap, "scale": config.scale,
        "projection_type": "std"}
    first, second = config.betas
    optimizer: Optimizer = GaloreOptimizer(
        [*({**group, **low} for group in projected), *rest], lr=config.lr or 0.0, betas=(first, second), eps=config.eps
    )
    return optimizer


def split_projected(config: c.Projected, module: nn.Module) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns the groups that are projected, and the rest. Raises ConfigError if no parameter is projected."""
    hidden, trained, lr = find_hidden_matrices(module), get_trained_parameters(module), config.lr or 0.0
    # By identity, because `==` of two tensors compares their numbers.
    chosen = {id(p) for p in trained if config.projects(tuple(p.shape), id(p) in hidden)}
    if not chosen:
        widest = max((min(p.shape) for p in trained if id(p) in hidden), default=0)
        raise ConfigError(
            "optim.rank={rank} leaves nothing to project: the shorter side of the model's matrices is at most "
            "{widest}; "
            "use a smaller optim.rank, or optim=adamw.",
            rank=config.rank, widest=widest,
        )
    projected = build_groups(module, config, [p for p in trained if id(p) in chosen], lr)
    return projected, build_groups(module, config, [p for p in trained if id(p) not in chosen], lr)
