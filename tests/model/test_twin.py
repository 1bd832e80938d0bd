"""Twins: a small model of the same architecture that behaves alike."""

from __future__ import annotations

import torch
from transformers import (
    AutoConfig,
)

from fulgurite.model.config import Tiny
from fulgurite.model.probe import measure
from fulgurite.model.tiny import build
from fulgurite.model.twin import (
    HEADS,
    LAYERS,
    SMALL,
    VOCABULARY,
    WIDTH,
    attends_by_documents,
    find_behaviour,
    shrink_sizes,
    twin,
)


def test_a_large_config_has_a_small_twin_that_behaves_alike() -> None:
    llama = AutoConfig.for_model("llama")
    made = twin(llama)
    assert made is not None
    assert sum(p.numel() for p in made.parameters()) < SMALL
    assert find_behaviour(llama) == measure(made)
    assert find_behaviour(AutoConfig.for_model("opt")).packs is False  # type: ignore[union-attr]


def test_a_twin_is_asked_whether_it_attends_by_documents() -> None:
    assert attends_by_documents(AutoConfig.for_model("llama")) is True
    assert attends_by_documents(AutoConfig.for_model("llama4_text")) is False
    assert attends_by_documents(AutoConfig.for_model("vit")) is None


def test_a_small_model_is_its_own_twin() -> None:
    shape = build(Tiny(), torch.float32).model.config
    assert twin(shape).config.hidden_size == 64  # type: ignore[union-attr]
    assert twin(shape).config.num_hidden_layers == 2  # type: ignore[union-attr]


def test_a_twin_has_a_layer_of_every_kind() -> None:
    config = AutoConfig.for_model("qwen3_next", num_hidden_layers=12)
    assert set(shrink_sizes(config).layer_types) == set(config.layer_types)


def test_a_config_without_a_twin_leaves_the_question_open() -> None:
    assert find_behaviour(AutoConfig.for_model("vit")) is None


def test_a_twin_is_shallow_narrow_and_of_few_tokens_and_leaves_the_random_state_alone() -> None:
    config = AutoConfig.for_model("llama", num_hidden_layers=12, rope_theta=123.0)
    before, state = config.to_dict(), torch.get_rng_state()
    small, made = shrink_sizes(config), twin(config)
    assert (small.num_hidden_layers, small.hidden_size, small.vocab_size) == (LAYERS, WIDTH, VOCABULARY)
    assert (small.num_attention_heads, small.head_dim) == (HEADS, WIDTH // HEADS)
    assert small.rope_parameters == config.rope_parameters  # how it computes stays
    assert made is not None
    assert not made.training
    assert not any(p.requires_grad for p in made.parameters())
    assert config.to_dict() == before
    assert torch.equal(torch.get_rng_state(), state)
    again = twin(config)
    assert again is not None
    assert all(torch.equal(a, b) for a, b in zip(made.parameters(), again.parameters(), strict=True))
