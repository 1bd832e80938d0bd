"""LoRA through peft, injected into the model's linear layers (Hu et al., https://arxiv.org/abs/2106.09685)."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from fulgurite.errors import ConfigError, did_you_mean
from fulgurite.method import config as c
from fulgurite.precision.build import Dtypes


def build(config: c.Lora, model: PreTrainedModel, dtypes: Dtypes) -> PreTrainedModel:
    """The peft model: base frozen in `dtypes.frozen`, adapter in `dtypes.trained`.

    Raises ConfigError where a target names no linear layer.
    """
    from peft import LoraConfig, get_peft_model
    from peft.tuners.lora import LoraLayer

    model.to(dtype=dtypes.frozen)
    model.requires_grad_(False)
    adapter = LoraConfig(
        r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout,
        target_modules=linear_targets(model, config.targets), task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, message=".*is_gradient_checkpointing.*")  # peft asks by the old name
        wrapped: PreTrainedModel = get_peft_model(model, adapter, autocast_adapter_dtype=False)
    for layer in wrapped.modules():
        if isinstance(layer, LoraLayer):
            # Under autocast the products run in the compute dtype anyway; casting inputs up first is work for nothing.
            layer.cast_input_dtype_enabled = dtypes.frozen == dtypes.trained
            if not layer.lora_variant and isinstance(layer.get_base_layer(), nn.Linear):
                layer.lora_variant = {name: one_product() for name in layer.lora_A}
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(dtypes.trained)
    return wrapped


@functools.cache
def one_product() -> Any:
    """peft's LoRA with the same arithmetic in fewer passes over memory.

    peft computes x·Aᵀ·Bᵀ, multiplies it by the scale and adds it to the layer's output: three tensors as wide as the output.
    Here the scale goes onto x·Aᵀ, which is only as wide as the rank, and one product adds straight onto the output.
    """
    from peft.tuners.lora.layer import LoraVariant

    class OneProduct(LoraVariant):  # type: ignore[misc]
        @staticmethod
        def init(module: Any, adapter_name: str, **more: Any) -> None:
            """Nothing to prepare."""

        @staticmethod
        def forward(module: Any, active_adapter: str, x: Tensor, result: Tensor, **more: Any) -> Tensor:
            down, up = module.lora_A[active_adapter], module.lora_B[active_adapter]
            narrow = down(module.lora_dropout[active_adapter](x)) * module.scaling[active_adapter]
            flat = torch.addmm(result.flatten(0, -2), narrow.flatten(0, -2), up.weight.t())
            return flat.view(result.shape)

        @staticmethod
        def merge_safe(module: Any, active_adapter: str, orig_weight: Tensor) -> Tensor:
            merged: Tensor = orig_weight + module.get_delta_weight(active_adapter).to(orig_weight.dtype)
            return merged

        @staticmethod
        def merge_unsafe(module: Any, active_adapter: str, orig_weight: Tensor) -> None:
            orig_weight.data += module.get_delta_weight(active_adapter).to(orig_weight.dtype)

        @staticmethod
        def unmerge(module: Any, active_adapter: str, orig_weight: Tensor) -> Tensor:
            base: Tensor = orig_weight - module.get_delta_weight(active_adapter).to(orig_weight.dtype)
            return base

    return OneProduct


def linear_targets(model: PreTrainedModel, wanted: list[str] | None) -> list[str]:
    """The last parts of the names of the linear layers that get an adapter: all but the head, or those wanted."""
    head = model.get_output_embeddings()
    found = sorted({name.rpartition(".")[2] for name, m in model.named_modules() if _is_linear(m) and m is not head})
    if wanted is None:
        return found
    for name in wanted:
        if name not in found:
            raise ConfigError(f"method.targets: {name} matches no linear layer.{did_you_mean(name, found)} There are: {', '.join(found)}.")
    return wanted


def _is_linear(module: nn.Module) -> bool:
    from transformers.pytorch_utils import Conv1D  # GPT-2's linear layer

    return isinstance(module, nn.Linear | Conv1D)
