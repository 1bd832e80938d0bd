"""Bytes of a weight that bitsandbytes stores in four bits. No torch."""

from __future__ import annotations

import math

BLOCK, SCALES = 64, 256
"""bitsandbytes: numbers that share a scale, and scales that share a scale of their own if they are quantised too."""


def count_four_bit_bytes(numbers: int, double: bool) -> int:
    """Bytes of a matrix of `numbers` weights in four bits, as bitsandbytes 0.50 stores it, with its scales and code
    tables.

    `double`: the scales are 8-bit numbers in blocks, with a float32 scale a block, one float32 offset and a table of
    256 codes.
    """
    blocks = math.ceil(numbers / BLOCK)
    scales = blocks + 4 * math.ceil(blocks / SCALES) + 4 + 4 * 256 if double else 4 * blocks
    return math.ceil(numbers / 2) + scales + 4 * 16
