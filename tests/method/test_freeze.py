"""Freeze trains the layers and parts that are named, and nothing else."""

from __future__ import annotations

import pytest
import torch
from tests.method.models import BF16, FP32, build_base, find_trained

from fulgurite.errors import ConfigError
from fulgurite.method.config import Freeze, Part
from fulgurite.method.freeze import build

NAMES = {name for name, _ in build_base().named_parameters()}


@pytest.mark.parametrize(("trainable", "expected"), [
    ("last:1", {n for n in NAMES if ".layers.1." in n}), ("first:1", {n for n in NAMES if ".layers.0." in n}),
    ("layers:0-1", {n for n in NAMES if "layers" in n}), ("mlp", {n for n in NAMES if ".mlp." in n}),
])
def test_only_what_is_named_is_trained(trainable: str, expected: set[str]) -> None:
    assert expected
    assert find_trained(build(Freeze(trainable=trainable), build_base(), FP32)) == expected


def test_embeddings_and_norms_are_trained_besides_if_asked() -> None:
    config = Freeze(trainable="*.q_proj.*", extra_trainable=[Part.embeddings, Part.norms])
    found = find_trained(build(config, build_base(), FP32))
    assert found == {n for n in NAMES if "q_proj" in n or "embed" in n or "norm" in n}


def test_trained_and_frozen_weights_are_stored_in_their_dtypes() -> None:
    model = build(Freeze(trainable="last:1"), build_base(), BF16)
    for name, parameter in model.named_parameters():
        assert parameter.dtype == (torch.float32 if ".layers.1." in name else torch.bfloat16), name


def test_a_place_that_the_model_lacks_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"method\.trainable: mlq matches nothing in the model.*Did you mean mlp"):
        build(Freeze(trainable="mlq"), build_base(), FP32)
