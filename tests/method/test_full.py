"""Full fine-tuning trains every parameter, in the dtype of trained weights."""

from __future__ import annotations

import pytest
import torch
from tests.method.models import BF16, FP32, build_base, find_trained

from fulgurite.method.config import Full
from fulgurite.method.full import build
from fulgurite.precision.policy import Dtypes

PURE = Dtypes("pure_bf16", "bf16-true", torch.bfloat16, torch.bfloat16, torch.bfloat16, "")


@pytest.mark.parametrize("dtypes", [FP32, BF16, PURE], ids=lambda dtypes: dtypes.option)
def test_every_parameter_is_trained_in_the_trained_dtype(dtypes: Dtypes) -> None:
    base = build_base().requires_grad_(False)
    before = {name: p.detach().clone() for name, p in base.named_parameters()}
    model = build(Full(), base, dtypes)
    assert model is base
    assert find_trained(model) == set(before)
    for name, parameter in model.named_parameters():
        assert parameter.dtype == dtypes.trained
        assert torch.equal(parameter.detach(), before[name].to(dtypes.trained)), name
