"""The result of an export."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fulgurite.language.message import UserMessage

if TYPE_CHECKING:
    import torch


@dataclass(slots=True)
class Written:
    """An export: its largest relative difference after rounding, the change by rounding, and notes to print."""

    difference: float
    dtype: torch.dtype | str
    """torch's type of the weights, or the name of GGUF's."""
    rounding: float = 0.0
    notes: list[UserMessage] = field(default_factory=list)
