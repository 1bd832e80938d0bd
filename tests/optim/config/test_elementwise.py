"""The declared bytes of state of optimizers that keep it number by number, by hand."""

from __future__ import annotations

import pytest

from fulgurite.optim.config import Adafactor, AdamW, AdamW8bit, Lion, Optim, PagedAdamW8bit, Sgd

MILLION = (1024, 1024)


@pytest.mark.parametrize(("config", "size"), [
    (AdamW(), 8 * 2**20 + 4),  # two moments of 4 bytes, and a count
    (AdamW8bit(), 2 * 2**20 + 8 * 4096),  # two moments of a byte, and two fp32 scales for each 256 numbers
    (PagedAdamW8bit(), 2 * 2**20 + 8 * 4096),
    (Sgd(), 4 * 2**20),
    (Sgd(momentum=0.0), 0),
    (Adafactor(), 4 * 2048 + 4),  # a number for each row and each column, and a count
    (Lion(), 4 * 2**20),
], ids=lambda value: repr(value) if isinstance(value, Optim) else "")
def test_bytes_of_a_matrix_of_a_million_numbers(config: Optim, size: int) -> None:
    assert config.state_bytes(MILLION, 4) == size
    if config.name in ("sgd", "lion"):
        assert config.state_bytes(MILLION, 2) == size // 2  # moments have the parameter's dtype


@pytest.mark.parametrize(("shape", "size"), [
    ((63, 65), 8 * 4095),  # below 4096 numbers bitsandbytes keeps 32 bits
    ((64, 64), 2 * 4096 + 8 * 16),
    ((64, 65), 2 * 4160 + 8 * 17),  # the last block is not full
])
def test_small_tensors_keep_32_bits_and_blocks_are_rounded_up(shape: tuple[int, int], size: int) -> None:
    assert AdamW8bit().state_bytes(shape, 4) == AdamW8bit().state_bytes(shape, 2) == size


@pytest.mark.parametrize(
    ("shape", "size"), [((10,), 4 * 10 + 4), ((3, 5), 4 * (3 + 5) + 4), ((2, 3, 5), 4 * 2 * (3 + 5) + 4), ((), 4 + 4)]
)
def test_adafactor_keeps_rows_and_columns_of_matrices_and_vectors_whole(shape: tuple[int, ...], size: int) -> None:
    assert Adafactor().state_bytes(shape, 4) == size
