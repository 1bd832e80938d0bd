"""The states of all random generators of a run, as tensors: python, numpy, torch, and the rank's own GPU.

Lightning's `_collect_rng_states` is not used: it returns python tuples that only pickle stores, and it reads every
visible GPU, which opens a context on each.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fulgurite.errors import CheckpointError
from fulgurite.language.message import message

if TYPE_CHECKING:
    from lightning.pytorch.strategies import Strategy

log = logging.getLogger(__name__)

PROCESSES = {"trainer", "trainer.devices", "trainer.num_nodes", "strategy"}
"""Names in resume.allow that allow another number of processes."""


def capture(device: torch.device) -> dict[str, Tensor]:
    """Returns the states in this process, which computes on `device`. Their sizes are the same on every rank."""
    # Version, 625 words of the Mersenne twister, and a cached normal number or None.
    _, words, gauss = random.getstate()
    # numpy's global generator: collators and libraries of others may draw from it.
    _, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    state = {
        "python": torch.tensor(words, dtype=torch.int64),
        "python_gauss": torch.tensor([gauss is not None, gauss or 0.0], dtype=torch.float64),
        "numpy": torch.from_numpy(np.array(keys)),
        "numpy_position": torch.tensor([position, has_gauss], dtype=torch.int64),
        "numpy_gauss": torch.tensor([cached], dtype=torch.float64),
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore(state: dict[str, Tensor], device: torch.device) -> None:
    """Restores the generators. Warns if the run moved between a GPU and a CPU, because its random draws then differ."""
    has_gauss, gauss = state["python_gauss"].tolist()
    # 3 is the version of Python's own state, which `capture` leaves out.
    random.setstate((3, tuple(state["python"].tolist()), gauss if has_gauss else None))
    position, cached = state["numpy_position"].tolist(), state["numpy_gauss"].item()
    np.random.set_state(("MT19937", state["numpy"].numpy(), position[0], position[1], cached))
    torch.set_rng_state(state["torch"])
    if ("cuda" in state) != (device.type == "cuda"):
        kind = "GPU" if "cuda" in state else "CPU"
        log.warning(message(
            "The checkpoint was written on a {kind} and this run uses {device}: from here on its random draws differ.",
            kind=kind, device=device,
        ))
    elif "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def gather(state: dict[str, Tensor], strategy: Strategy) -> list[dict[str, Tensor]]:
    """Returns every rank's state in the order of the ranks. Gathers bytes: `all_gather_object` would pickle."""
    if getattr(strategy, "world_size", 1) == 1:
        return [state]
    # Equal sizes on every rank, so that one gather of bytes is enough.
    flat = torch.cat([tensor.reshape(-1).view(torch.uint8) for tensor in state.values()])
    rows = strategy.all_gather(flat.to(strategy.root_device)).cpu()
    return [_unflatten(row, state) for row in rows]


def _unflatten(row: Tensor, like: dict[str, Tensor]) -> dict[str, Tensor]:
    # The bytes are cut by the sizes of this rank's own state, which the others' equal.
    parts = torch.split(row, [tensor.nbytes for tensor in like.values()])
    return {
        name: part.clone().view(tensor.dtype).reshape(tensor.shape)
        for part, (name, tensor) in zip(parts, like.items(), strict=True)
    }


def select_rank(
    states: list[dict[str, Tensor]], rank: int, world_size: int, allow: Collection[str] = ()
) -> dict[str, Tensor]:
    """Returns this rank's state.

    Raises CheckpointError if the run had another number of processes, unless `allow` (of resume.allow) names their
    number; further processes then begin with the states of the first.
    """
    if len(states) != world_size and not PROCESSES & set(allow):
        raise CheckpointError(
            "The checkpoint was written by {before} processes and this run has {now}, so that random numbers would "
            "differ; start {before} processes, or add resume.allow=[trainer.devices].",
            before=len(states), now=world_size,
        )
    return states[rank % len(states)]
