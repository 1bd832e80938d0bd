"""Turns a setting of another trainer, a name with a value, into words of the command line."""

from __future__ import annotations

from dataclasses import dataclass

from fulgurite.foreign_names.entry import VALUE, ForeignName
from fulgurite.foreign_names.sharding import find_strategy
from fulgurite.foreign_names.table import find_names

TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0", "none", "null", "")

VALUES: dict[str, dict[str, str]] = {
    "precision": {
        "16": "precision=fp16", "16-mixed": "precision=fp16", "16-true": "precision=fp16", "half": "precision=fp16",
        "float16": "precision=fp16", "bf16-mixed": "precision=bf16", "bf16-true": "precision=pure_bf16",
        "bfloat16": "precision=bf16", "32": "precision=fp32", "32-true": "precision=fp32", "float32": "precision=fp32",
        "float": "precision=fp32", "full": "precision=fp32", "no": "precision=fp32", "mixed": "precision=bf16",
        "tf32": "precision=fp32", "amp": "precision=bf16", "int4": "method=qlora", "4bit": "method=qlora",
        "nf4": "method=qlora", "bnb.nf4": "method=qlora",
    },
    "trainer": {
        "gpu": "trainer.accelerator=cuda", "cuda": "trainer.accelerator=cuda", "cpu": "trainer.accelerator=cpu",
        "auto": "trainer.accelerator=auto", "ddp": "strategy=ddp", "multi_gpu": "strategy=ddp",
    },
    "trainer.accelerator": {"gpu": "trainer.accelerator=cuda", "nvidia": "trainer.accelerator=cuda"},
    "trainer.devices": {"auto": "", "-1": ""},
    "strategy": {"ddp_spawn": "strategy=ddp", "dp": "strategy=ddp", "single_device": "strategy=auto",
                 "ddp_find_unused_parameters_true": "strategy=ddp", "model_parallel": "strategy=fsdp"},
    "optim": {
        "adam": "optim=adamw", "adamw_torch": "optim=adamw", "adamw_torch_fused": "optim=adamw",
        "adamw_hf": "optim=adamw",
        "adamw_apex_fused": "optim=adamw", "adamw_bnb_8bit": "optim=adamw_8bit", "adamw8bit": "optim=adamw_8bit",
        "adam8bit": "optim=adamw_8bit", "paged_adamw": "optim=paged_adamw_8bit", "paged_adamw_32bit": "optim=adamw",
        "lion_32bit": "optim=lion", "lion_8bit": "optim=lion", "galore_adamw": "optim=galore",
        "apollo_adamw": "optim=apollo",
        "schedule_free_adamw": "optim=schedule_free", "adafactor_hf": "optim=adafactor", "momentum": "optim=sgd",
    },
    "scheduler": {
        "cosine_annealing": "scheduler=cosine", "cosine_with_warmup": "scheduler=cosine", "none": "scheduler=constant",
        "cosine_warmup_with_min_lr": "scheduler=cosine_with_min_lr", "linear_with_warmup": "scheduler=linear",
        "wsd": "scheduler=warmup_stable_decay", "plateau": "scheduler=reduce_lr_on_plateau",
    },
    "stage": {
        "pretrain": "stage=pt", "pretraining": "stage=pt", "reward": "stage=rm", "reward_model": "stage=rm",
        "sfttrainer": "stage=sft", "orpo": "stage=dpo stage.loss=orpo", "simpo": "stage=dpo stage.loss=simpo",
        "ipo": "stage=dpo stage.loss=ipo", "cpo": "stage=dpo stage.loss=cpo", "rlhf": "stage=ppo",
        "instruct": "stage=sft",
        "finetune": "stage=sft", "sft_lora": "stage=sft method=lora",
    },
    "stage.loss": {
        "dpo": "stage.loss=sigmoid", "kto_pair": "stage=kto", "kto": "stage=kto", "exo": "stage.loss=exo_pair",
        "nca": "stage.loss=nca_pair", "bco": "stage.loss=bco_pair",
    },
    "logger": {
        "all": "logger=[csv,tensorboard,wandb]", "tb": "logger=tensorboard", "weights_and_biases": "logger=wandb",
        "false": "logger=none",
    },
    "method": {"freeze_tuning": "method=freeze", "peft": "method=lora", "full_finetune": "method=full",
    "sft": "stage=sft"},
    "model.attention": {
        "flash": "", "flash_attention": "", "flash_attention_2": "", "fa2": "", "flash_attention_3": "", "auto": "",
        "disabled": "model.attention=eager",
    },
    "data.packing": {"true": "data.packing=best_fit", "false": "data.packing=none"},
    "method.targets": {"all": "", "all-linear": ""},
}
"""The values that people know for parameters and groups of ours, and the words for each; none for a default."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of another trainer in our words; `entry` is its name. It has no words if nothing is to be set."""

    entry: ForeignName
    words: tuple[str, ...] = ()
    is_copied: bool = True
    """Whether `words` are complete; else a value has to be chosen."""


def find_value(target: str, value: str) -> str | None:
    """Returns the words for a value that `target` has elsewhere; None if the value is not known."""
    known = VALUES.get(target, {}).get(value.strip().casefold())
    return find_strategy(value) if known is None and target == "strategy" else known


def translate_setting(name: str, value: str) -> Setting | None:
    """Returns the words for `name` with `value`, a text as on a command line or in a YAML file.

    None if the name is not known. The first owner's meaning is taken if owners differ.
    """
    found = find_names(name)
    return None if not found else translate_entry(found[0], value.strip())


def translate_entry(entry: ForeignName, value: str) -> Setting:
    """Returns the words for a known name with a value."""
    lower = value.casefold()
    # The most specific meaning first: the words for this value of this very name.
    given = {key: words for key, words in entry.values.items() if key == lower}
    if given:
        return Setting(entry, tuple(given[lower].split()))
    if not entry.words:
        return Setting(entry)
    # A switch that is off needs no words: the default is kept.
    if entry.is_switch:
        return Setting(entry, () if lower in FALSE else tuple(entry.words.split()))
    # Switched off. "0" is left to `find_strategy`, because it is a stage of ZeRO.
    if entry.words == "strategy" and lower in FALSE and lower != "0":
        return Setting(entry)
    if entry.words == "strategy" and (known := find_value(entry.words, value)) is not None:
        return Setting(entry, tuple(known.split()))
    # The value means something else than ours (a batch size per device), so only the parameter is named.
    if not entry.carries:
        return Setting(entry, tuple(entry.words.split()), is_copied=False)
    # No value: the default of the parameter stays.
    if lower in ("null", "none", "") and entry.words not in VALUES:
        return Setting(entry)
    if (known := find_value(entry.words, value)) is not None:
        return Setting(entry, tuple(known.split()))
    if VALUE in entry.words:
        return Setting(entry, tuple(word.replace(VALUE, quote_value(value)) for word in entry.words.split()))
    return Setting(entry, (f"{entry.words}={quote_value(value)}",))


def quote_value(value: str) -> str:
    """Returns a value as it is written on a command line: a list in brackets, truth in small letters."""
    if value.casefold() in ("true", "false"):
        return value.casefold()
    if "," in value and not value.startswith(("[", "{", "'", '"')):
        return f"[{value}]"
    return f"'{value}'" if " " in value else value
