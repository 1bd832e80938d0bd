"""axolotl's YAML and the YAML or JSON of TRL's scripts, in which most keys mean one thing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fulgurite.convert import reasons
from fulgurite.convert.conversion import Answer, Handler, Settings, drop, is_true, refuse, show_value, take, write_word
from fulgurite.convert.engine import SourceTrainer
from fulgurite.convert.llama_factory import HANDLERS as LLAMA_FACTORY_HANDLERS
from fulgurite.foreign_names import notes
from fulgurite.language.message import message

LISTED = message("Files and hub datasets; the form of their records is detected, and data.columns names other columns.")
SPLITS = message("A share of the data is held out by data.val_fraction.")
STAGES = {"dpo": "stage=dpo", "ipo": "stage=dpo stage.loss=ipo", "orpo": "stage=dpo stage.loss=orpo",
          "simpo": "stage=dpo stage.loss=simpo", "kto": "stage=kto", "grpo": "stage=grpo"}
"""The words for axolotl's `rl`."""
METHODS = {"lora": "method=lora", "qlora": "method=qlora"}
SHARED = ("trust_remote_code", "resume_from_checkpoint", "report_to", "bf16", "fp16", "max_steps", "deepspeed", "fsdp",
          "fp8", "max_new_tokens", "warmup_ratio", "warmup_steps", "adam_beta1",
          "adam_beta2")
"""Keys that mean here what they mean in LLaMA-Factory."""


KERNELS = ("flash_attention", "sdp_attention", "xformers_attention", "attn_implementation")


def _take_batch(per_device: str) -> Handler:
    def answer(settings: Settings, value: Any) -> Answer:
        size = int(settings.get(per_device) or 1) * int(settings.get("gradient_accumulation_steps") or 1)
        return take(f"trainer.global_batch_size={size}", reason=reasons.BATCH)

    return answer


def _fold(settings: Settings, value: Any) -> Answer:
    return drop(reasons.IN_BATCH)


def _take_listed(settings: Settings, value: Any) -> Answer:
    """Returns the words for axolotl's `datasets`: a list of objects with a path and a type."""
    entries = value if isinstance(value, list) else [value]
    paths = [entry.get("path") if isinstance(entry, Mapping) else entry for entry in entries]
    if not all(isinstance(path, str) for path in paths):
        return refuse(message("A dataset without a path."))
    return take("data=file", write_word("data.path", [_write_path(str(path)) for path in paths]), reason=LISTED)


def _take_hub(settings: Settings, value: Any) -> Answer:
    return take("data=file", write_word("data.path", [_write_path(show_value(value))]), reason=LISTED)


def _write_path(path: str) -> str:
    """Returns a path, or the id of a dataset of the hub as it is written here: `owner/name`, with no extension."""
    is_hub = path.count("/") == 1 and not path.startswith((".", "/", "~")) and "." not in path.rpartition("/")[2]
    return f"hub:{path}" if is_hub else path


def _take_adapter(settings: Settings, value: Any) -> Answer:
    if value is None:
        return take("method=full")
    return take(METHODS[value]) if value in METHODS else refuse(message("Only lora and qlora are adapters there."))


def _take_stage(settings: Settings, value: Any) -> Answer:
    if value is None:
        return drop(reasons.EMPTY)
    return take(*STAGES[value].split()) if value in STAGES else refuse(message("There is no such stage here."))


def _take_cut(parameter: str) -> Handler:
    return lambda settings, value: drop(reasons.EMPTY) if value is None else take(f"{parameter}={value}")


def _take_variant(settings: Settings, value: Any) -> Answer:
    if not is_true(value):
        return drop(reasons.OFF)
    return take("method.variant=dora")


def _take_peft(settings: Settings, value: Any) -> Answer:
    if not is_true(value):
        return take("method=full")
    return take("method=qlora" if settings.is_on("load_in_4bit") else "method=lora")


def _take_four_bits(settings: Settings, value: Any) -> Answer:
    return drop(message("With the adapter.")) if is_true(value) else drop(reasons.OFF)


def _take_held_out(settings: Settings, value: Any) -> Answer:
    if value is None or float(value) >= 1:
        return drop(reasons.EMPTY) if value is None else refuse(reasons.NUMBER_HELD_OUT)
    return take(write_word("data.val_fraction", value))


def _skip_kernel(settings: Settings, value: Any) -> Answer:
    return drop(notes.ATTENTION)


AXOLOTL = SourceTrainer(
    "axolotl", ("axolotl", "Hugging Face", "peft", "bitsandbytes"),
    {
        **{key: LLAMA_FACTORY_HANDLERS[key] for key in SHARED},
        "micro_batch_size": _take_batch("micro_batch_size"), "gradient_accumulation_steps": _fold,
        "datasets": _take_listed, "test_datasets": lambda settings, value: refuse(SPLITS), "adapter": _take_adapter,
        "rl": _take_stage, "load_in_4bit": _take_four_bits, "val_set_size": _take_held_out,
        "eval_batch_size": _fold, "peft_use_dora": _take_variant,
        "lora_target_linear": lambda settings, value: drop(reasons.SAME),
        "tf32": lambda settings, value: drop(reasons.SAME),
        **dict.fromkeys(KERNELS, _skip_kernel),
    },
    {"adapter": None, "num_epochs": 1, "lr_scheduler": "cosine"}, decisive=("adapter",),
)
TRL = SourceTrainer(
    "TRL", ("TRL", "Hugging Face", "peft", "bitsandbytes"),
    {
        **{key: LLAMA_FACTORY_HANDLERS[key] for key in SHARED},
        "per_device_train_batch_size": _take_batch("per_device_train_batch_size"),
        "gradient_accumulation_steps": _fold, "per_device_eval_batch_size": _fold, "dataset_name": _take_hub,
        "attn_implementation": _skip_kernel,
        "use_peft": _take_peft, "load_in_4bit": _take_four_bits, "max_length": _take_cut("data.max_length"),
        "dataset_train_split": lambda settings, value: drop(reasons.SAME) if value == "train" else refuse(
            message("Write the split after the id: data.path=hub:owner/name:split.")),
        "dataset_test_split": lambda settings, value: drop(SPLITS),
    },
    {"learning_rate": 2e-5, "num_train_epochs": 3.0, "per_device_train_batch_size": 8, "lr_scheduler_type": "linear",
     "warmup_steps": 0, "use_peft": False, "max_length": 1024},
    {"num_train_epochs": ("max_steps",), "warmup_steps": ("warmup_ratio",)}, ("use_peft",),
)
"""Defaults of SFTConfig (TRL 1.16)."""
