"""What this package uses of transformers beyond its documented functions. Tested with transformers 5.23; a test
fails if it is gone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn

BALANCE = "load_balancing_loss_func"
"""The function of the balance loss, in the module of each architecture with a mixture of experts."""
SEARCH = "find_packed_sequence_indices"
"""The function of `transformers.masking_utils` that finds packed rows by their positions."""


def enable_activation_checkpointing(model: Any) -> None:
    """Recomputes activations in the backward pass; transformers renamed the method in 5.2x, and our floor is older."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def recomputes_activations(model: nn.Module) -> bool:
    """Returns whether a layer recomputes its activations; the attribute has kept the name that the methods had."""
    return any(getattr(module, "gradient_checkpointing", False) for module in model.modules())


def balance_loss_function(model: Any) -> Callable[..., Tensor] | None:
    """Returns the architecture's balance loss of a router, or None."""
    found: Callable[..., Tensor] | None = getattr(sys.modules[type(model).__module__], BALANCE, None)
    return found


def keeps_every_position(layers: Iterable[Any], length: int) -> bool:
    """Returns whether every layer of a cache is a plain one with `length` positions, without a window or a running
    state."""
    from transformers.cache_utils import DynamicLayer

    return all(type(layer) is DynamicLayer and layer.get_seq_length() == length for layer in layers)


def repeat_cache(cache: Any, rows: Tensor) -> None:
    """Replaces the rows of a cache by those of the given numbers, which may repeat."""
    cache.batch_select_indices(rows)


def replace_packing_search(is_known: Callable[[], bool]) -> None:
    """Makes transformers not search positions for packed rows while `is_known()`: it waits for the device to do so.

    It then builds the mask as for rows of one document each.
    """
    from transformers import masking_utils

    search = getattr(masking_utils, SEARCH, None)
    if search is None or hasattr(search, "known"):
        return

    def find(position_ids: Tensor) -> Tensor | None:
        found: Tensor | None = None if is_known() else search(position_ids)
        return found

    find.known = is_known  # type: ignore[attr-defined]
    setattr(masking_utils, SEARCH, find)
