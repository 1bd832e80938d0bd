"""What the package uses of transformers beyond its documentation is there, and does what it is used for."""

from __future__ import annotations

import torch
from tests.model.folders import build_architecture
from transformers import DynamicCache, masking_utils

from fulgurite.model import transformers_internals as internals


def test_checkpointing_is_turned_on_and_seen() -> None:
    model = build_architecture("llama").train()
    assert not internals.recomputes_activations(model)
    internals.enable_activation_checkpointing(model)
    assert internals.recomputes_activations(model)


def test_the_balance_loss_is_that_of_the_architecture() -> None:
    from transformers.models.mixtral import modeling_mixtral

    assert internals.balance_loss_function(build_architecture("mixtral")) is modeling_mixtral.load_balancing_loss_func
    assert internals.balance_loss_function(build_architecture("llama")) is None


def test_a_plain_cache_keeps_every_position_and_repeats_its_rows() -> None:
    model = build_architecture("llama").eval()
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        model.get_decoder()(input_ids=torch.tensor([[5, 6, 7], [8, 9, 10]]), past_key_values=cache, use_cache=True)
    assert internals.keeps_every_position(cache.layers, 3)
    assert not internals.keeps_every_position(cache.layers, 4)
    before = cache.layers[0].keys.clone()
    internals.repeat_cache(cache, torch.tensor([0, 1, 0, 1]))
    assert torch.equal(cache.layers[0].keys, before.repeat(2, 1, 1, 1))
    windows = DynamicCache(config=build_architecture("mistral").config)
    assert not internals.keeps_every_position(windows.layers, 0)


def test_the_search_for_packed_rows_is_asked_only_if_nothing_is_known() -> None:
    known = False
    before = masking_utils.find_packed_sequence_indices
    positions = torch.tensor([[0, 1, 0]])
    try:
        masking_utils.find_packed_sequence_indices = lambda position_ids: position_ids + 1
        internals.replace_packing_search(lambda: known)
        internals.replace_packing_search(lambda: True)  # once is enough
        assert masking_utils.find_packed_sequence_indices(positions).tolist() == [[1, 2, 1]]
        known = True
        assert masking_utils.find_packed_sequence_indices(positions) is None
    finally:
        masking_utils.find_packed_sequence_indices = before
    assert hasattr(masking_utils, internals.SEARCH)
