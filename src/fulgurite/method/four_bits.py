"""Bytes of a weight that bitsandbytes stores in four bits. No torch."""

from __future__ import annotations

import math

BLOCK, SCALES = 64, 256
"""bitsandbytes: numbers that share a scale, and scales that share a scale of their own if they are quantised too."""


def four_bit_bytes(numbers: int, double: bool) -> int:
    """Bytes of so many numbers with their scales; tables that all layers share are not counted."""
    blocks = math.ceil(numbers / BLOCK)
    scales = blocks + 4 * math.ceil(blocks / SCALES) + 4 if double else 4 * blocks
    return math.ceil(numbers / 2) + scales
