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
"""What peft puts before the names of the model that it wraps."""
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
def ignoring_warnings() -> Iterator[None]:
    """Hides what peft 0.21 warns of although nothing is wrong."""
    with warnings.catch_warnings():
        # peft asks transformers by a name that is deprecated there
        warnings.filterwarnings("ignore", category=FutureWarning, message=".*is_gradient_checkpointing.*")
        # peft fuses the targets of some architectures' experts, and then misses the layers of the fused names
        warnings.filterwarnings("ignore", category=RuntimeWarning, message=".*_pattern keys did not match.*")
        # `load_adapter` refuses these itself
        warnings.filterwarnings("ignore", category=UserWarning, message="Found missing adapter keys")
        yield


def plain_name(name: str) -> str:
    """The name of a module or parameter in the model without peft's wrapper."""
    return name.removeprefix(PREFIX)


def is_adapter_layer(module: nn.Module) -> bool:
    """Whether the module is a layer with an adapter on it."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return isinstance(module, BaseTunerLayer)


def is_saved_module(module: nn.Module) -> bool:
    """Whether the module stands for one that is trained whole (`modules_to_save`)."""
    from peft.utils import ModulesToSaveWrapper

    return isinstance(module, ModulesToSaveWrapper)


def is_token_layer(module: nn.Module) -> bool:
    """Whether the module holds the trained rows of single tokens (`trainable_token_indices`)."""
    from peft.utils import TrainableTokensWrapper

    return isinstance(module, TrainableTokensWrapper)


def is_from_peft(module: nn.Module) -> bool:
    """Whether the module's class is peft's."""
    return type(module).__module__.startswith("peft.")


def saved_module(module: Any) -> nn.Module:
    """The trained copy inside a module of `is_saved_module`."""
    [active] = module.active_adapters
    found: nn.Module = module.modules_to_save[active]
    return found


def token_adapter(module: Any) -> Any:
    """The adapter layer inside a module of `is_token_layer`."""
    return module.token_adapter


def adapter_parameters(layer: Any) -> Iterator[nn.Parameter]:
    """The parameters that an adapter layer adds, by the names that its class declares."""
    for name in layer.adapter_layer_names:
        factor = getattr(layer, name, None)
        if isinstance(factor, nn.Module):
            yield from factor.parameters()
        elif factor is not None:
            yield from factor


def adapter_rank(module: nn.Module) -> int:
    """The rank of the adapter on a module, 0 if there is none."""
    return int(getattr(module, "r", {}).get(ADAPTER, 0))


def lora_pair(module: Any) -> LoraPair | None:
    """The matrices of a LoRA layer, or None for any other module."""
    if not hasattr(module, "lora_A"):
        return None
    a, b = module.lora_A[ADAPTER].weight.data, module.lora_B[ADAPTER].weight.data
    return LoraPair(a, b, adapter_rank(module), float(module.scaling[ADAPTER]))


def is_lora_b(name: str) -> bool:
    """Whether a parameter's name is that of a LoRA layer's second matrix, which starts at zero."""
    return "lora_B" in name


def set_input_cast(model: nn.Module, enabled: bool) -> None:
    """Sets whether each adapter layer casts its inputs to the adapter's dtype; under autocast that is work for
    nothing."""
    layer: Any
    for layer in model.modules():
        if is_adapter_layer(layer):
            layer.cast_input_dtype_enabled = enabled


def mark_four_bits(model: Any) -> None:
    """Tells peft that the model's linear layers are bitsandbytes' four-bit ones."""
    model.is_loaded_in_4bit = True
