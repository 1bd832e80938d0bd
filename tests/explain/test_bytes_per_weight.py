"""Bytes per weight, against arithmetic by hand; tests/end_to_end holds them against live tensors."""

from __future__ import annotations

from typing import Any

import pytest

from fulgurite.config.schema import list_options
from fulgurite.explain.bytes_per_weight import (
    build_frozen_table,
    build_trained_table,
    count_frozen_bytes,
    count_gradient_bytes,
    count_state_bytes,
    count_weight_bytes,
    list_compute_types,
)
from fulgurite.precision.config import Rounding


def precision(name: str, **values: Any) -> Any:
    return list_options("precision")[name](**values)


@pytest.mark.parametrize(
    ("name", "trained", "gradient"), [("fp32", 4, 4), ("bf16", 4, 4), ("fp16", 4, 4), ("pure_bf16", 2, 2)]
)
def test_bytes_of_a_trained_weight_and_its_gradient(name: str, trained: int, gradient: int) -> None:
    assert (count_weight_bytes(precision(name)), count_gradient_bytes(precision(name))) == (trained, gradient)


def test_state_of_adam_is_two_moments_and_a_count() -> None:
    adamw = list_options("optim")["adamw"]()
    assert count_state_bytes(adamw, precision("fp32"), (3, 5)) == 2 * 4 * 15 + 4
    assert count_state_bytes(adamw, precision("pure_bf16"), (3, 5)) == 2 * 2 * 15 + 4


def test_kahan_summation_adds_two_bytes_a_weight() -> None:
    adamw = list_options("optim")["adamw"]()
    nearest = precision("pure_bf16", rounding=Rounding.nearest)
    kahan = precision("pure_bf16", rounding=Rounding.kahan)
    assert count_state_bytes(adamw, kahan, (3, 5)) == count_state_bytes(adamw, nearest, (3, 5)) + 2 * 15


def test_frozen_weights_have_the_dtype_of_the_base_or_four_bits() -> None:
    lora, qlora = list_options("method")["lora"](), list_options("method")["qlora"]()
    assert count_frozen_bytes(lora, precision("fp32"), (64, 64)) == 4 * 4096
    assert count_frozen_bytes(lora, precision("bf16"), (64, 64)) == 2 * 4096
    # half a byte a number, 64 scales of a byte in one block with 4 bytes, an offset, 256 codes and 16 codes of 4 bytes
    qlora.double_quant = True
    assert count_frozen_bytes(qlora, precision("bf16"), (64, 64)) == 2048 + 64 + 4 + 4 + 1024 + 64
    qlora.double_quant = False
    assert count_frozen_bytes(qlora, precision("bf16"), (64, 64)) == 2048 + 4 * 64 + 64


def test_tables_have_a_column_for_each_compute_type() -> None:
    assert list_compute_types() == ["fp32", "bf16", "fp16", "pure_bf16"]  # auto is one of these
    trained = {name: cells for name, *cells in build_trained_table()}
    assert trained["adamw"] == [*["4 + 4 + 8 = 16"] * 3, "2 + 2 + 4 = 8"]
    assert trained["sgd"] == [*["4 + 4 + 4 = 12"] * 3, "2 + 2 + 2 = 6"]
    assert trained.keys() == list_options("optim").keys()
    held = {name: cells for name, *cells in build_frozen_table()}
    assert held["lora"] == ["4", "2", "2", "2"]
    assert "full" not in held
    assert held.keys() == {name for name, cls in list_options("method").items() if not cls().whole}  # type: ignore[attr-defined]
