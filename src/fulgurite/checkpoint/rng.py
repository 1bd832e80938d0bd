"""The state of every random generator a run draws from, as tensors: python, numpy, torch, and the rank's own GPU.

`torch.get_rng_state` and its kin give the states; Lightning's `_collect_rng_states` was looked at and not used, for it
returns python tuples that only pickle stores, and reads every visible GPU, which opens a context on each.
"""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fulgurite.errors import CheckpointError

if TYPE_CHECKING:
    from lightning.pytorch.strategies import Strategy

log = logging.getLogger(__name__)


def capture(device: torch.device) -> dict[str, Tensor]:
    """The generators' states in this process; `device` is the one it computes on. Sizes are the same on every rank."""
    _, words, gauss = random.getstate()
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
    """Put the generators back. Going from a GPU to a CPU or the reverse is told in the log: the noise then differs."""
    has_gauss, gauss = state["python_gauss"].tolist()
    random.setstate((3, tuple(state["python"].tolist()), gauss if has_gauss else None))
    position, cached = state["numpy_position"].tolist(), state["numpy_gauss"].item()
    np.random.set_state(("MT19937", state["numpy"].numpy(), position[0], position[1], cached))
    torch.set_rng_state(state["torch"])
    if ("cuda" in state) != (device.type == "cuda"):
        log.warning("The checkpoint was made on %s and goes on on %s: from here on its random draws differ.",
                    "a GPU" if "cuda" in state else "a CPU", device)
    elif "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def gather(state: dict[str, Tensor], strategy: Strategy) -> list[dict[str, Tensor]]:
    """Every rank's state in the order of the ranks. Bytes are gathered: `all_gather_object` would pickle."""
    if getattr(strategy, "world_size", 1) == 1:
        return [state]
    flat = torch.cat([tensor.reshape(-1).view(torch.uint8) for tensor in state.values()])
    rows = strategy.all_gather(flat.to(strategy.root_device)).cpu()
    return [_unflatten(row, state) for row in rows]


def _unflatten(row: Tensor, like: dict[str, Tensor]) -> dict[str, Tensor]:
    parts = torch.split(row, [tensor.nbytes for tensor in like.values()])
    return {
        name: part.clone().view(tensor.dtype).reshape(tensor.shape)
        for part, (name, tensor) in zip(parts, like.items(), strict=True)
    }


def select_rank(states: list[dict[str, Tensor]], rank: int, world_size: int) -> dict[str, Tensor]:
    """This rank's state. Raises CheckpointError where the run had another number of processes."""
    if len(states) != world_size:
        raise CheckpointError(
            f"The checkpoint was made by {len(states)} processes and this run has {world_size}: it would not be the "
            f"same run; start {len(states)}, or begin a new run from its exported weights (model.path=...)."
        )
    return states[rank]
