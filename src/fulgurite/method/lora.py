"""LoRA through peft, injected into the model's linear layers (Hu et al., https://arxiv.org/abs/2106.09685)."""

from __future__ import annotations

import logging
import warnings

from torch import nn
from transformers import PreTrainedModel

from fulgurite.errors import ConfigError, did_you_mean
from fulgurite.method import config as c
from fulgurite.precision.build import Dtypes


def build(config: c.Lora, model: PreTrainedModel, dtypes: Dtypes) -> PreTrainedModel:
    """The peft model: base frozen in `dtypes.frozen`, adapter in `dtypes.trained`.

    Raises ConfigError where a target names no linear layer.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # peft loads it, and it tells of a GPU kernel that is not there
    from peft import LoraConfig, get_peft_model
    from peft.tuners.lora import LoraLayer

    model.to(dtype=dtypes.frozen)
    model.requires_grad_(False)
    adapter = LoraConfig(
        r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout,
        target_modules=linear_targets(model, config.targets),
        task_type="CAUSAL_LM" if model.get_output_embeddings() is not None else None,  # a reward model is none of peft's tasks
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, message=".*is_gradient_checkpointing.*")  # peft asks by the old name
        wrapped: PreTrainedModel = get_peft_model(model, adapter, autocast_adapter_dtype=False)
    for layer in wrapped.modules():
        if isinstance(layer, LoraLayer):
            # Under autocast the products run in the compute dtype anyway; casting inputs up first is work for nothing.
            layer.cast_input_dtype_enabled = dtypes.frozen == dtypes.trained
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(dtypes.trained)
    return wrapped


def linear_targets(model: PreTrainedModel, wanted: list[str] | None) -> list[str]:
    """The last parts of the names of the linear layers that get an adapter: all but the head, or those wanted."""
    heads = (model.get_output_embeddings(), getattr(model, "score", None))
    found = sorted({name.rpartition(".")[2] for name, m in model.named_modules() if _is_linear(m) and m not in heads})
    if wanted is None:
        return found
    for name in wanted:
        if name not in found:
            raise ConfigError(f"method.targets: {name} matches no linear layer.{did_you_mean(name, found)} There are: {', '.join(found)}.")
    return wanted


def _is_linear(module: nn.Module) -> bool:
    from transformers.pytorch_utils import Conv1D  # GPT-2's linear layer

    return isinstance(module, nn.Linear | Conv1D)
