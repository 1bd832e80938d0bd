"""What is known of the data, the model and the machine when empty parameters are filled."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Facts:
    """Facts of the data, the model and the machine; filled in as they become known."""

    percentile_99: int = 0
    """Tokens: the 99th percentile of the examples' lengths."""
    rows: int = 0
    """Examples, and once they are cut and packed the training rows of an epoch."""
    model_length: int = 0
    """Tokens: the longest input that the model was made for."""
    total_steps: int = 0
    """Optimizer steps of the whole run."""
    device: str = "cpu"
    processes: int = 1
