"""The weights of a model with its adapter in them, a matrix at a time; the model stays what it is, bit for bit.

peft's `merge_adapter` was looked at: it merges all at once, and what `unmerge_adapter` gives back differs in the
last bits.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from fulgurite.errors import ConfigError
from fulgurite.model.peft_internals import (
    get_saved_module,
    is_adapter_layer,
    is_from_peft,
    is_saved_module,
    is_token_layer,
    token_adapter,
)
from fulgurite.model.unwrap import unwrap_model


@torch.no_grad()
def merge_weights(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """Each weight by the name that it has in the plain model, a tied one by each of its names; a copy where an
    adapter is in it.

    Raises ConfigError if something other than an adapter's layer or a module trained whole replaces a plain
    one's place.
    """
    causal = unwrap_model(model)
    inside: set[nn.Module] = set()
    for place, module in causal.named_modules():
        # named_modules also visits what is inside a layer that is done already.
        if module in inside:
            continue
        if is_adapter_layer(module):
            inside.update(module.modules())
            yield from _of_layer(place, module)
        elif is_token_layer(module):  # the rows of tokens that were added
            inside.update(module.modules())
            yield from _of_layer(place, token_adapter(module))
        elif is_saved_module(module):
            inside.update(module.modules())
            yield from ((f"{place}.{name}", p.detach()) for name, p in get_saved_module(module).named_parameters())
        elif is_from_peft(module):
            raise ConfigError(
                "{layer} at {place} cannot be merged into plain weights; use stage.engine=transformers.",
                layer=type(module).__name__, place=place,
            )
        else:
            yield from (
                (f"{place}.{name}" if place else name, p.detach()) for name, p in module.named_parameters(recurse=False)
            )


def _of_layer(place: str, layer: Any) -> list[tuple[str, Tensor]]:
    plain = layer.get_base_layer()
    # unmerge() subtracts what merge() added, which rounds: the bits are put back from a copy.
    before = {name: p.detach().clone() for name, p in plain.named_parameters()}
    layer.merge()
    with_adapter = [(f"{place}.{name}", p.detach().clone()) for name, p in plain.named_parameters()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it gives back in IA³, which the next lines put right
        layer.unmerge()
    for name, p in plain.named_parameters():
        p.data.copy_(before[name])
    return with_adapter
