"""The parts of a model that methods speak of: layers, linear weights, embeddings, head, norms; and freezing them."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from fulgurite.errors import ConfigError
from fulgurite.method.config import Part
from fulgurite.method.selectors import Names
from fulgurite.model.unwrap import unwrap_model
from fulgurite.precision.policy import Dtypes

# peft loads it, and it warns of a GPU kernel that is missing
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def find_layers(model: PreTrainedModel) -> tuple[str, nn.ModuleList]:
    """The name and the list of the decoder's layers. Raises ConfigError if none can be found."""
    count = model.config.get_text_config().num_hidden_layers
    found = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m) == count]
    if not found:
        raise ConfigError(
            "{model} has no list of {count} layers; use method=full or lora.",
            model=type(model).__name__, count=count,
        )
    # The outermost list: experts may be as many as layers, but they are deeper.
    return min(found, key=lambda pair: len(pair[0]))


def collect_names(model: PreTrainedModel) -> Names:
    """The names of all parameters, tied ones once, and where the layers are."""
    prefix, found = find_layers(model)
    return Names(tuple(name for name, _ in model.named_parameters()), prefix, len(found))


def is_linear(module: nn.Module) -> bool:
    """Whether an adapter can be put on the module."""
    from transformers.pytorch_utils import Conv1D  # GPT-2's linear layer

    if not isinstance(module, nn.Linear | Conv1D):
        return False
    # torch's own forward, and those of libraries outside transformers, return the product; others are tried.
    if type(module).forward in (nn.Linear.forward, Conv1D.forward) or not type(module).__module__.startswith(
        "transformers.models"
    ):
        return True
    return _returns_a_product(module)


@torch.no_grad()
def _returns_a_product(module: nn.Linear) -> bool:
    """Whether an architecture's own kind of linear layer returns a tensor of its outputs: some routers inherit from
    Linear, and do not."""
    try:
        # Tried on one row: the class's name does not reveal what its forward returns.
        found = module(torch.zeros(1, module.in_features, dtype=module.weight.dtype, device=module.weight.device))
    except (RuntimeError, ValueError, TypeError, IndexError):
        return False
    return isinstance(found, torch.Tensor) and found.shape == (1, module.out_features)


def find_linear_layers(model: PreTrainedModel) -> dict[str, nn.Module]:
    """Every linear layer but the head, a reward model's too, by its full name."""
    heads = (model.get_output_embeddings(), getattr(model, "score", None))
    return {name: m for name, m in model.named_modules() if is_linear(m) and m not in heads}


def count_elements(parameter: nn.Parameter) -> int:
    """How many numbers a parameter holds; a quantised one packs several into a byte."""
    state = getattr(parameter, "quant_state", None)
    return int(math.prod(state.shape)) if state is not None else parameter.numel()


def find_part(model: PreTrainedModel, part: Part) -> list[nn.Parameter]:
    """The parameters of the embeddings, the head, or all norms. Raises ConfigError where the model has none."""
    modules: list[nn.Module | None] = [model.get_input_embeddings()]
    if part is Part.head:
        modules = [model.get_output_embeddings()]
    elif part is Part.norms:
        modules = [m for m in model.modules() if type(m).__name__.endswith(("Norm", "NormMLP"))]
    found = [p for m in modules if m is not None for p in m.parameters(recurse=False)]
    if not found:
        raise ConfigError("method.extra_trainable: {model} has no {part}.", model=type(model).__name__, part=part)
    return found


def train_only(model: nn.Module, chosen: Iterable[nn.Parameter], dtypes: Dtypes) -> None:
    """Freeze all but the chosen parameters, each in the dtype that its kind is stored in; what is quantised stays
    so.

    If the dtypes differ, every parameter gets memory of its own: one that is still in the mapped file would keep
    all of it.
    """
    live, apart = {id(p) for p in chosen}, dtypes.frozen != dtypes.trained
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in live)
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtypes.trained if id(parameter) in live else dtypes.frozen, copy=apart)
    for buffer in model.buffers():
        if buffer.is_floating_point() and dtypes.frozen == dtypes.trained != torch.float32:
            buffer.data = buffer.data.to(dtypes.trained)


def get_decoder_layers(model: Any) -> nn.ModuleList:
    """The decoder's layers, of a plain model or of one with adapters."""
    found: nn.ModuleList = find_layers(unwrap_model(model))[1]
    return found


def count_parameters(module: nn.Module) -> tuple[int, int]:
    """How many parameters are trained, and how many there are."""
    counts = [(count_elements(p), p.requires_grad) for p in module.parameters()]
    return sum(n for n, on in counts if on), sum(n for n, _ in counts)
