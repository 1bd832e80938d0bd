"""The declared bytes of a four-bit matrix are those of the tensors that bitsandbytes keeps."""

from __future__ import annotations

from typing import Any

import pytest
from tests.method.models import FP32, stored_bytes
from torch import nn

from fulgurite.method.config import Qlora, Quant
from fulgurite.method.four_bits import count_four_bit_bytes
from fulgurite.method.qlora import quantise_layer


@pytest.mark.parametrize("quant", Quant)
@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("shape", [(64, 64), (576, 192), (48, 31), (17, 15), (3, 5), (1024, 257)])
def test_four_bit_bytes_equal_bitsandbytes_storage(shape: tuple[int, int], double: bool, quant: Quant) -> None:
    layer: Any = quantise_layer(nn.Linear(shape[1], shape[0]), Qlora(double_quant=double, quant_type=quant), FP32)
    assert stored_bytes(layer.weight) == count_four_bit_bytes(shape[0] * shape[1], double)


def test_two_layers_share_no_code_table() -> None:
    layers: list[Any] = [quantise_layer(nn.Linear(64, 64), Qlora(), FP32) for _ in range(2)]
    first, second = (layer.weight.quant_state for layer in layers)
    assert first.code.data_ptr() != second.code.data_ptr()
    assert first.state2.code.data_ptr() != second.state2.code.data_ptr()
