"""LoRA through peft, injected into the model's linear layers (Hu et al., https://arxiv.org/abs/2106.09685)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from fulgurite.errors import ConfigError, ModelError, suggest_similar
from fulgurite.language.library_errors import translate_error
from fulgurite.language.message import message
from fulgurite.method import config as c
from fulgurite.method.adapters import EVERY, attach, freeze_base, list_linear_targets, load_adapter, task
from fulgurite.method.modules import find_linear_layers
from fulgurite.model.load import Form, raise_one_error
from fulgurite.model.peft_internals import get_adapter_rank, get_plain_name, is_lora_b
from fulgurite.model.safety import check_adapter
from fulgurite.optim.param_groups import scale_rate
from fulgurite.precision.policy import Dtypes

INIT: dict[c.Init, bool | str] = {
    c.Init.default: True, c.Init.gaussian: "gaussian", c.Init.pissa: "pissa", c.Init.olora: "olora", c.Init.loftq: True,
}
"""peft's words for how an adapter begins; LoftQ's beginning is made in qlora.py."""


def build(config: c.Lora, model: PreTrainedModel, dtypes: Dtypes) -> Any:
    """The peft model: base frozen in `dtypes.frozen`, adapter in `dtypes.trained`.

    Raises ConfigError where a target names no linear layer or method.adapter_path does not fit, ModelError where it
    cannot be read.
    """
    return adapt(config, freeze_base(stack_adapter(config, model), dtypes), dtypes)


def adapt(config: c.Lora, model: PreTrainedModel, dtypes: Dtypes) -> Any:
    """Put the adapter that `config` describes on a model whose base is ready, and say how its parts move."""
    wrapped = attach(model, build_peft_config(config, model), dtypes)
    _refuse_lowered(config, wrapped)
    if config.adapter_path and config.adapter_mode is c.AdapterMode.go_on:
        _go_on(config, wrapped)
    for name, parameter in wrapped.named_parameters():
        if parameter.requires_grad and is_lora_b(name):
            # LoRA+: B begins at zero and wants a larger rate than A; a ratio of 1 is plain LoRA.
            scale_rate(parameter, config.loraplus_lr_ratio)
    return wrapped


def _refuse_lowered(config: c.Lora, wrapped: Any) -> None:
    """Raise ConfigError where a matrix has fewer directions than the rank: pissa and olora take as many as there
    are, in silence."""
    for name, module in wrapped.named_modules():
        # The SVD of a matrix has min(shape) directions; peft makes the adapter that small and keeps r in its config.
        rank = get_adapter_rank(module) if config.init in (c.Init.pissa, c.Init.olora) else 0
        shape = tuple(module.get_base_layer().weight.shape) if rank else ()
        if rank and min(shape) < rank:
            raise ConfigError(
                "method.rank={rank} is more than {layer} of {shape} has; with method.init={init} use "
                "method.rank={most} or less.",
                rank=rank, layer=get_plain_name(name), shape=shape, init=config.init, most=min(shape),
            )


def build_peft_config(config: c.Lora, model: PreTrainedModel) -> Any:
    """The LoraConfig of our knobs."""
    from peft import LoraConfig

    kept = list_whole_modules(model, config.modules_to_save)
    new = getattr(model, "new_token_ids", None)
    for knob, pattern in (("rank_pattern", config.rank_pattern), ("alpha_pattern", config.alpha_pattern)):
        _refuse_unmatched(knob, pattern, model)
    return LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=list_linear_targets(model, config.targets),
        use_rslora=config.variant is c.Variant.rslora,
        use_dora=config.variant is c.Variant.dora,
        init_lora_weights=INIT[config.init],
        modules_to_save=kept or None,
        rank_pattern=dict(config.rank_pattern),
        alpha_pattern=dict(config.alpha_pattern),
        trainable_token_indices=list(new) if new else None,
        task_type=task(model),
        target_parameters=list_expert_parameters(config, model) or None,
    )


def list_expert_parameters(config: c.Lora, model: PreTrainedModel) -> list[str]:
    """The experts that are kept as one tensor of three dimensions, by their names, if all layers are adapted.

    peft adapts such a tensor by plain LoRA without dropout alone; of another kind they are left out, which the run
    says.
    """
    plain = (
        config.variant is not c.Variant.dora and not config.dropout and config.init in (c.Init.default, c.Init.gaussian)
    )
    if not plain or config.quantised or (config.targets and config.targets[0] not in EVERY):
        return []
    return [
        name
        for name, p in model.named_parameters()
        # By the name of the module that has the parameter: transformers calls it `experts`.
        if p.ndim == 3 and name.rpartition(".")[0].rpartition(".")[2] == "experts"
    ]


def _refuse_unmatched(knob: str, pattern: Mapping[str, float], model: PreTrainedModel) -> None:
    """Raise ConfigError for a pattern that fits no linear layer, as peft would fit it: it passes over such a one in
    silence."""
    layers = list(find_linear_layers(model))
    for name in pattern:
        # peft's own rule: the pattern is matched at the end of a name, after a dot or alone.
        if not any(re.match(rf"(.*\.)?({name})$", layer) for layer in layers):
            parts = sorted({layer.rpartition(".")[2] for layer in layers})
            raise ConfigError(
                "method.{parameter}: {name} matches no linear layer.{hint} There are: {layers}.",
                parameter=knob, name=name, hint=suggest_similar(name, parts), layers=", ".join(parts),
            )


def list_whole_modules(model: PreTrainedModel, wanted: list[str]) -> list[str]:
    """The full names of the modules with weights whose last part is wanted: peft alone would take norm for
    input_layernorm too.

    Raises ConfigError where a name is none.
    """
    there = [name for name, m in model.named_modules() if any(True for _ in m.parameters(recurse=False))]
    parts = {name.rpartition(".")[2] for name in there}
    for name in wanted:
        if name not in parts:
            raise ConfigError(
                "method.modules_to_save: {name} is no module with weights.{hint}",
                name=name, hint=suggest_similar(name, parts),
            )
    # Full names, because peft matches the end of a name.
    return [name for name in there if name.rpartition(".")[2] in wanted]


def stack_adapter(config: c.Lora, model: PreTrainedModel) -> PreTrainedModel:
    """The model with method.adapter_path merged into it, where it is to be stacked upon; else the model as it is."""
    if not config.adapter_path or config.adapter_mode is not c.AdapterMode.stack:
        return model
    folder = _adapter_folder(config.adapter_path)
    with raise_one_error(folder, Form.adapter):
        merged: PreTrainedModel = load_adapter(model, folder, autocast_adapter_dtype=False).merge_and_unload()
    return merged


def _adapter_folder(start: str) -> Path:
    folder = Path(start).expanduser()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / name).is_file():
            raise ModelError(
                "method.adapter_path={folder} has no {name}; use a folder that `fulgurite export merge=false` "
                "or peft wrote.",
                folder=folder, name=name,
            )
    check_adapter(folder)
    return folder


def _go_on(config: c.Lora, wrapped: Any) -> None:
    """Load method.adapter_path into the new adapter; it must have the same layers and ranks."""
    folder = _adapter_folder(config.adapter_path or "")
    try:
        kept = load_file(folder / "adapter_model.safetensors")
    except SafetensorError as error:
        raise ModelError(
            "{folder}/adapter_model.safetensors cannot be read: {error}; export the adapter again.",
            folder=folder, error=translate_error(error),
        ) from error
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    ours: dict[str, Tensor] = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    # First the names that only one side has; if there are none, those of different shapes.
    differ = sorted(ours.keys() ^ kept.keys()) or [n for n in ours if ours[n].shape != kept[n].shape]
    if differ:
        name = differ[0]
        here, there = (tuple(d[name].shape) if name in d else message("absent") for d in (ours, kept))
        raise ConfigError(
            "method.adapter_path={folder} is not an adapter of these parameters: {name} is {here} against {there} "
            "there ({count} differ); use the same method.rank, targets and variant, or method.adapter_mode=stack.",
            folder=folder, name=name, here=here, there=there, count=len(differ),
        )
    set_peft_model_state_dict(wrapped, kept)
