"""Computes the prompt that both sides of a pair share only once, if that saves enough.

The rest of each side attends to the prompt's keys and values, which transformers' own cache keeps with their
gradients: every log-probability is the same sum. A single sequence of the prompt and both answers with a mask was
slower: attention over the whole sequence took longer than the prompt. Shapes: B pairs, S = 2B sides (chosen first), T
tokens of the longest, P of them shared.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from fulgurite.model.transformers_internals import keeps_every_position, recomputes_activations, repeat_cache

SPARED, LEAST = 0.2, 128
"""The minimum share of all tokens that must be saved, and of shared tokens per pair: with less, two passes take longer
than one (`python -m benchmarks.shared_prompt`)."""


def is_worth_it(sides: int, longest: int, shared: int) -> bool:
    """Returns whether `shared` tokens at the start of S = `sides` sequences of T = `longest` tokens are worth a
    separate pass."""
    # A pair has 2 T tokens, and its prompt is computed once instead of twice.
    return sides > 0 and shared >= LEAST and shared / (2 * longest) >= SPARED


def build_cache(causal: PreTrainedModel, ids_BP: Tensor) -> DynamicCache:
    """Computes keys and values of B prompts, first for all chosen sides, then again for the rejected; gradients flow
    into them."""
    cache = DynamicCache(config=causal.config)
    causal.get_decoder()(input_ids=ids_BP, past_key_values=cache, use_cache=True)
    repeat_cache(cache, torch.arange(len(ids_BP), device=ids_BP.device).repeat(2))
    return cache


def is_possible(causal: PreTrainedModel) -> bool:
    """Returns whether later tokens see all earlier ones, and only through such a cache.

    False if activations are recomputed, because transformers then keeps no cache; false with sliding windows or
    running states. Measured on the model itself, with eight tokens, instead of a list of names.
    """
    if recomputes_activations(causal):
        return False
    device = next(causal.parameters()).device
    ids_ST = torch.arange(1, 17, device=device).view(2, 8) % causal.get_input_embeddings().num_embeddings
    # One pair: two sides of eight tokens that share the first five.
    ids_ST[1, :5] = ids_ST[0, :5]
    # a layer in bf16 beside one in fp32 needs autocast
    lower = any(p.dtype != torch.float32 for p in causal.parameters())
    was_training = causal.training
    causal.eval()
    try:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=lower):
            whole_STD = causal.get_decoder()(input_ids=ids_ST, use_cache=False).last_hidden_state
            cache = build_cache(causal, ids_ST[:1, :5])
            if not keeps_every_position(cache.layers, 5):
                return False
            rest_STD = causal.get_decoder()(
                input_ids=ids_ST[:, 5:], past_key_values=cache, use_cache=True
            ).last_hidden_state
    except (AttributeError, RuntimeError, TypeError, ValueError):  # a decoder that knows no such cache
        return False
    finally:
        causal.train(was_training)
    # The same sums in another order are equal up to rounding, which is coarse in bf16.
    near = 0.1 if lower else 1e-3
    return torch.allclose(rest_STD.float(), whole_STD[:, 5:].float(), rtol=near, atol=near)
