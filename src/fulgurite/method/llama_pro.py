"""Block expansion: new layers that do nothing at first, and only they are trained (LLaMA Pro,
https://arxiv.org/abs/2401.02415)."""

from __future__ import annotations

import copy

from torch import nn
from transformers import PreTrainedModel

from fulgurite.errors import ConfigError
from fulgurite.method import config as c
from fulgurite.method import modules as parts
from fulgurite.precision.policy import Dtypes


def build(config: c.LlamaPro, model: PreTrainedModel, dtypes: Dtypes) -> PreTrainedModel:
    """The model with `blocks` more layers, the new ones trained. Raises ConfigError where they cannot be spread
    evenly.

    A copy adds nothing to the residual stream while its two output projections are zero, so the model's
    answers stay the same.
    """
    name, old = parts.find_layers(model)
    count = len(old)
    if count % config.blocks:
        fit = ", ".join(str(n) for n in range(1, count + 1) if count % n == 0)
        raise ConfigError(
            "method.blocks={blocks} cannot be spread over {count} layers; use one of {fit}.",
            blocks=config.blocks, count=count, fit=fit,
        )
    grown, new = nn.ModuleList(), []
    for number, layer in enumerate(old, 1):
        grown.append(layer)
        if number % (count // config.blocks) == 0:
            # A copy after each group of count / blocks layers, as in the paper.
            block = copy.deepcopy(layer)
            for output in _outputs(block):
                nn.init.zeros_(output.weight)
                if output.bias is not None:
                    nn.init.zeros_(output.bias)
            grown.append(block)
            new += list(block.parameters())
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, grown)
    text = model.config.get_text_config()
    # The config is saved with the model, so it must describe the grown one.
    text.num_hidden_layers = len(grown)
    kinds = getattr(text, "layer_types", None)
    if kinds is not None:
        # Architectures that mix kinds of attention look a layer's kind up by its number.
        text.layer_types = [
            # Twice for each layer that is followed by its copy.
            kind for n, kind in enumerate(kinds, 1) for kind in [kind] * (1 + (n % (count // config.blocks) == 0))
        ]
    for index, layer in enumerate(grown):  # the cache is kept by number
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = index  # type: ignore[assignment]
    parts.train_only(model, new, dtypes)
    return model


def _outputs(block: nn.Module) -> list[nn.Linear]:
    """The projections by which a layer writes into the residual stream: of attention, and of the feed-forward."""
    known = ("o_proj", "down_proj", "out_proj", "fc2")
    found = [m for name, m in block.named_modules() if isinstance(m, nn.Linear) and name.endswith(known)]
    if len(found) != 2:
        raise ConfigError(
            "method=llama_pro does not know the output projections of {block}; use another method.",
            block=type(block).__name__,
        )
    return found
