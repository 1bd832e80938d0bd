"""QLoRA: LoRA on a base of four-bit numbers, by bitsandbytes (Dettmers et al., https://arxiv.org/abs/2305.14314).

Lightning's own BitsandbytesPrecision refuses a CPU and transformers quantises only while it loads from a folder; here
the loaded model's linear layers are replaced, so that every model of the group `model` can be quantised, on any device.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from fulgurite.errors import ConfigError
from fulgurite.method import config as c
from fulgurite.method.adapters import freeze_base
from fulgurite.method.lora import adapt, stack_adapter
from fulgurite.method.modules import find_linear_layers
from fulgurite.model.peft_internals import find_lora_pair, get_plain_name, mark_four_bits
from fulgurite.precision.policy import Dtypes


def build(config: c.Qlora, model: PreTrainedModel, dtypes: Dtypes) -> Any:
    """The peft model on a quantised base; where `dtypes.plain_base`, on the same base as ordinary numbers, for an
    export."""
    model = stack_adapter(config, model)
    # LoftQ needs the weights from before the quantisation; in bf16 they take half of the memory.
    originals: dict[str, Tensor] = {}
    if config.init is c.Init.loftq:
        originals = {
            name: layer.get_parameter("weight").detach().bfloat16() for name, layer in find_linear_layers(model).items()
        }
    wrapped = adapt(config, freeze_base(quantise(config, model, dtypes), dtypes), dtypes)
    if originals:
        _loftq(wrapped, originals)
    return wrapped


def quantise(config: c.Qlora, model: PreTrainedModel, dtypes: Dtypes) -> PreTrainedModel:
    """The model with every linear layer but the head quantised, in place; from bf16, so that each precision has the
    same base."""
    for name, layer in find_linear_layers(model).items():
        if not isinstance(layer, nn.Linear):
            raise ConfigError(
                "method=qlora cannot quantise {name}, a {kind}; use method=lora.",
                name=name, kind=type(layer).__name__,
            )
        _replace(model, name, quantise_layer(layer, config, dtypes))
    if not dtypes.plain_base:
        nn.Module.to(model, find_device())  # the layers are there: what comes next runs the model as a whole
        mark_four_bits(model)
    return model


def find_device() -> torch.device:
    """Returns the device that quantises: bitsandbytes packs a weight when it is moved there."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def quantise_layer(layer: nn.Linear, config: c.Qlora, dtypes: Dtypes) -> nn.Module:
    """The layer with its weight in four bits, or as ordinary numbers that are those four bits'."""
    import bitsandbytes as bnb

    four: Any
    four = bnb.nn.Linear4bit(
        layer.in_features, layer.out_features, bias=layer.bias is not None, compute_dtype=dtypes.compute,
        compress_statistics=config.double_quant, quant_type=str(config.quant_type), device="cpu",
    )
    # Still in bf16: the weight is packed when the layer is moved below.
    four.weight = bnb.nn.Params4bit(
        layer.weight.data.to(torch.bfloat16), requires_grad=False, quant_type=str(config.quant_type),
        compress_statistics=config.double_quant, module=four,
    )
    four.bias = layer.bias
    # Else a CPU's first evaluation repacks the weight in place and computes in bf16 from then on: a run that is resumed
    # after it would not be the run that went through (bitsandbytes 0.50, measured: 2e-3 on outputs of 0.5).
    four.support_avx512bf16_for_cpu = False
    four.to(find_device())
    if not dtypes.plain_base:
        done: nn.Module = four
        return done
    plain = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
    plain.weight.data = bnb.functional.dequantize_4bit(four.weight.data, four.weight.quant_state).to(
        "cpu", dtypes.frozen
    )
    if layer.bias is not None:
        plain.bias = nn.Parameter(layer.bias.data.to(dtypes.frozen))
    return plain


def _replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    # get_submodule("") is the model itself.
    setattr(model.get_submodule(parent), last, layer)


@torch.no_grad()
def _loftq(wrapped: Any, originals: dict[str, Tensor]) -> None:
    """Let each adapter begin as the best approximation of its rank of what quantisation lost.

    LoftQ, Li et al., https://arxiv.org/abs/2310.08659, with one iteration: the base is the plain quantisation, so
    that it does not hang on the adapter. peft's replace_lora_weights_loftq was looked at: it wants the base's file
    on disk.
    """
    for name, module in wrapped.named_modules():
        original = originals.get(get_plain_name(name))
        pair = find_lora_pair(module) if original is not None else None
        if original is None or pair is None:
            continue
        if pair.rank > min(original.shape):
            raise ConfigError(
                "method.rank={rank} is more than {layer} of {shape} has; with method.init={init} use "
                "method.rank={most} or less.",
                rank=pair.rank, layer=get_plain_name(name), shape=tuple(original.shape), init="loftq",
                most=min(original.shape),
            )
        lost = original.float() - dequantise(module.get_base_layer()).float()
        u, s, v = torch.linalg.svd(lost, full_matrices=False)
        # B A is multiplied by the scaling, so each factor takes the root of what is left of the singular value.
        root = (s[: pair.rank] / pair.scaling).sqrt()
        pair.b.copy_(u[:, : pair.rank] * root)
        pair.a.copy_(root[:, None] * v[: pair.rank])


def dequantise(layer: nn.Module) -> Tensor:
    """The weight of a linear layer [out, in] as ordinary numbers."""
    weight: Any = layer.weight
    if getattr(weight, "quant_state", None) is None:
        found: Tensor = weight.data
        return found
    import bitsandbytes as bnb

    numbers: Tensor = bnb.functional.dequantize_4bit(weight.data, weight.quant_state)
    return numbers
