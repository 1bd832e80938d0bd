"""The prompt that both sides of a pair share goes through the model once, where that spares enough.

What is left of each side attends to the prompt's keys and values, which transformers' own cache holds with their
gradients: every log-probability is the same sum. One row of prompt and both answers under a mask was tried as well:
attention over the whole row cost more than the prompt did. Shapes: B pairs, S = 2B sides (chosen first), T tokens of
the longest, P of them shared.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from fulgurite.model.transformers_internals import keeps_every_position, recomputes_activations, repeat_cache

SPARED, LEAST = 0.2, 128
"""The share of all tokens that must be spared, and the shared tokens a pair: with less, two passes in the place of
one cost more than they spare (`python -m benchmarks.shared_prompt`)."""


def is_worth_it(sides: int, longest: int, shared: int) -> bool:
    """Whether `shared` tokens at the head of S = `sides` rows of T = `longest` tokens are worth a pass of their own."""
    return sides > 0 and shared >= LEAST and shared / (2 * longest) >= SPARED


def build_cache(causal: PreTrainedModel, ids_BP: Tensor) -> DynamicCache:
    """Keys and values of B prompts, first for all chosen sides, then again for the rejected; gradients flow into
    them."""
    cache = DynamicCache(config=causal.config)
    causal.get_decoder()(input_ids=ids_BP, past_key_values=cache, use_cache=True)
    repeat_cache(cache, torch.arange(len(ids_BP), device=ids_BP.device).repeat(2))
    return cache


def is_possible(causal: PreTrainedModel) -> bool:
    """Whether later tokens see earlier ones through such a cache and nothing else, and see all of them.

    No where activations are recomputed, for transformers then keeps no cache; no with sliding windows, or states
    that move along. Asked of the model itself, on eight tokens, rather than of a list of names.
    """
    if recomputes_activations(causal):
        return False
    device = next(causal.parameters()).device
    ids_ST = torch.arange(1, 17, device=device).view(2, 8) % causal.get_input_embeddings().num_embeddings
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
    near = 0.1 if lower else 1e-3
    return torch.allclose(rest_STD.float(), whole_STD[:, 5:].float(), rtol=near, atol=near)
