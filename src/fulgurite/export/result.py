"""The result of an export."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(slots=True)
class Written:
    """What was written: its largest relative difference after rounding, what rounding changed, and notes to print."""

    difference: float
    dtype: torch.dtype
    rounding: float = 0.0
    notes: list[str] = field(default_factory=list)
