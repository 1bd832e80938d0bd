"""What this package uses of peft beyond its documented functions. Tested with peft 0.21; a test fails if a name is
gone.

peft is imported inside the functions: a model without an adapter does not need it.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

ADAPTER = "default"
"""The name that peft gives to the only adapter of a model."""
PARAMETER = f".{ADAPTER}"
"""Part of the name of every parameter of an adapter. With the adapter disabled, none of them counts."""
PREFIX = "base_model.model."
"""The prefix that peft puts before the names of the model that it wraps."""
OWN_PARTS = frozenset(("weight", "bias", ADAPTER, "base_layer"))
"""Parts of a parameter's name that are peft's or torch's, not the model's."""


@dataclass(frozen=True, slots=True)
class LoraPair:
    """The two matrices of a LoRA layer, with its rank and the factor on their product."""

    a: Tensor
    b: Tensor
    rank: int
    scaling: float


@contextlib.contextmanager
def ignore_warnings() -> Iterator[None]:
    """Hides warnings of peft 0.21 that do not apply."""
    with warnings.catch_warnings():
        # peft asks transformers by a name that is deprecated there
        warnings.filterwarnings("ignore", category=FutureWarning, message=".*is_gradient_checkpointing.*")
        # peft fuses the targets of some architectures' experts, and then misses the layers of the fused names
        warnings.filterwarnings("ignore", category=RuntimeWarning, message=".*_pattern keys did not match.*")
        # `load_adapter` refuses these itself
        warnings.filterwarnings("ignore", category=UserWarning, message="Found missing adapter keys")
        yield


def get_plain_name(name: str) -> str:
    """Returns the name of a module or parameter in the model without peft's wrapper."""
    return name.removeprefix(PREFIX)


def is_adapter_layer(module: nn.Module) -> bool:
    """Returns whether the module is a layer with an adapter."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return isinstance(module, BaseTunerLayer)


def is_saved_module(module: nn.Module) -> bool:
    """Returns whether the module wraps one that is trained whole (`modules_to_save`)."""
    from peft.utils import ModulesToSaveWrapper

    return isinstance(module, ModulesToSaveWrapper)


def is_token_layer(module: nn.Module) -> bool:
    """Returns whether the module contains the trained rows of single tokens (`trainable_token_indices`)."""
    from peft.utils import TrainableTokensWrapper

    return isinstance(module, TrainableTokensWrapper)


def is_from_peft(module: nn.Module) -> bool:
    """Returns whether the module's class is peft's."""
    return type(module).__module__.startswith("peft.")


def get_saved_module(module: Any) -> nn.Module:
    """Returns the trained copy inside a module of `is_saved_module`."""
    [active] = module.active_adapters
    found: nn.Module = module.modules_to_save[active]
    return found


def token_adapter(module: Any) -> Any:
    """Returns the adapter layer inside a module of `is_token_layer`."""
    return module.token_adapter


def list_adapter_parameters(layer: Any) -> Iterator[nn.Parameter]:
    """Yields the parameters that an adapter layer adds, by the names that its class declares."""
    for name in layer.adapter_layer_names:
        factor = getattr(layer, name, None)
        if isinstance(factor, nn.Module):
            yield from factor.parameters()
        elif factor is not None:
            yield from factor


def get_adapter_rank(module: nn.Module) -> int:
    """Returns the rank of the adapter on a module, 0 if there is none."""
    return int(getattr(module, "r", {}).get(ADAPTER, 0))


def find_lora_pair(module: Any) -> LoraPair | None:
    """Returns the matrices of a LoRA layer, or None for any other module."""
    if not hasattr(module, "lora_A"):
        return None
    a, b = module.lora_A[ADAPTER].weight.data, module.lora_B[ADAPTER].weight.data
    return LoraPair(a, b, get_adapter_rank(module), float(module.scaling[ADAPTER]))


def is_lora_b(name: str) -> bool:
    """Returns whether a parameter's name is that of a LoRA layer's second matrix, which starts at zero."""
    return "lora_B" in name


def set_input_cast(model: nn.Module, enabled: bool) -> None:
    """Sets whether each adapter layer casts its inputs to the adapter's dtype, which is not needed with autocast."""
    layer: Any
    for layer in model.modules():
        if is_adapter_layer(layer):
            layer.cast_input_dtype_enabled = enabled


def mark_four_bits(model: Any) -> None:
    """Marks the model's linear layers as bitsandbytes' four-bit ones, for peft."""
    model.is_loaded_in_4bit = True
