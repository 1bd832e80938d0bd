"""LLaMA-Factory's YAML of version 0.9: what its keys mean together (`hparams/*.py`, `data/loader.py`, `v1/config`)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from fulgurite.convert import reasons
from fulgurite.convert.conversion import Answer, Handler, Settings, drop, is_true, refuse, show_value, take, write_word
from fulgurite.convert.engine import SourceTrainer, convert_by_name
from fulgurite.foreign_names import notes
from fulgurite.foreign_names.sharding import find_strategy
from fulgurite.language.message import UserMessage, message

BUILT_IN = ("alpaca", "chatml", "gemma", "llama3", "mistral", "vicuna", "zephyr")
"""The templates that have the same name here."""
QUANTISED = re.compile(r"(?i)(?:^|[-_/])(?:gptq|awq|aqlm|hqq|eetq)")
"""The names of models whose weights are stored in a few bits."""
UNKNOWN_NUMBER = "..."
WITH_BETA = ("dpo", "kto")
WITHOUT_WARMUP = ("constant", "reduce_lr_on_plateau")
VARIANTS = {"use_dora": "dora", "use_rslora": "rslora"}
"""Switches that change how an adapter is computed; an adapter has one of them."""
LORA_PLUS = "loraplus_lr_ratio"
CUT = message("There longer examples are cut, as data.too_long=truncate does; drop is safer.")
NAMES_OF_DATA = message("data.registry defines how each of them is read.")
NO_VALIDATION = message("Nothing is held out there; a share such as data.val_fraction=0.05 would show over-fitting.")
FROM_BASE = message("method.alpha / method.rank is the scale; twice the rank is its default there.")
PRO = message(
    "The model of the file has its added layers already; here method=llama_pro with method.blocks=<number of layers> "
    "adds them to the original model."
)
STARTED = message("How processes are started is no setting of the run; strategy and trainer.devices share its steps.")
MEGATRON = message("A kernel or an order of Megatron, which changes no result.")
KERNELS = message("Not needed: the kernels of torch are used.")
V1_DATA = message("A list of data sets in a YAML of version 1; give its files by data.path, or data.registry.")


def _take_method(settings: Settings, value: Any) -> Answer:
    kind = show_value(value).lower()
    if kind == "freeze":
        return take("method=freeze") if not settings.is_on("use_llama_pro") else drop(message("With use_llama_pro."))
    if kind == "oft":
        return take("method=oft")
    if kind != "lora":
        return convert_by_name(LLAMA_FACTORY, "finetuning_type", value)
    if settings.get("quantization_bit") is not None:
        return drop(message("With quantization_bit."))
    variants = [name for switch, name in VARIANTS.items() if settings.is_on(switch)]
    return drop(message("With {switch}.", switch=f"use_{variants[0]}")) if variants else take("method=lora")


def _take_bits(settings: Settings, value: Any) -> Answer:
    if value is None:
        return drop(reasons.EMPTY)
    if show_value(value) != "4":
        return refuse(reasons.EIGHT_BITS)
    if show_value(settings.get("finetuning_type") or settings.get("peft_config.name") or "lora") != "lora":
        return refuse(message("Quantised weights are trained with LoRA only: method=qlora."))
    return take("method=qlora")


def _take_quantizer(settings: Settings, value: Any) -> Answer:
    if show_value(value) in ("bnb", "auto"):
        return drop(message("QLoRA uses bitsandbytes here too."))
    return refuse(reasons.OTHER_QUANTISATION)


def _take_variant(switch: str) -> Handler:
    """Returns the handler of a switch that changes how an adapter is computed."""

    def take_variant(settings: Settings, value: Any) -> Answer:
        if not is_true(value):
            return drop(reasons.OFF)
        # of two switches the first in VARIANTS is taken, and only the other is refused
        other = next((name for name in VARIANTS if name != switch and settings.is_on(name)), None)
        if other is not None and list(VARIANTS).index(switch) > list(VARIANTS).index(other):
            return refuse(message("It cannot be combined with {other} here.", other=other))
        if settings.get("quantization_bit") is not None:
            # quantization_bit has chosen method=qlora, of which the variant is a parameter
            return take(f"method.variant={VARIANTS[switch]}")
        return take(f"method={VARIANTS[switch]}")

    return take_variant


def _take_rank(settings: Settings, value: Any) -> Answer:
    return take(f"method.rank={value}") if _uses_lora(settings) else drop(message("It is a parameter of LoRA."))


def _take_alpha(settings: Settings, value: Any) -> Answer:
    if not _uses_lora(settings):
        return drop(message("It is a parameter of LoRA."))
    if value is None:
        rank = settings.get("lora_rank")
        return take(f"method.alpha={2 * rank}", reason=FROM_BASE) if isinstance(rank, int) else drop(reasons.EMPTY)
    return take(f"method.alpha={value}")


def _uses_lora(settings: Settings) -> bool:
    return show_value(settings.get("finetuning_type") or settings.get("peft_config.name") or "lora") == "lora"


def _take_targets(settings: Settings, value: Any) -> Answer:
    names = [name.strip() for name in show_value(value).split(",")]
    if names == ["all"]:
        return drop(message("Every linear layer but the head, as here."))
    return take(write_word("method.targets", names))


def _take_layers(settings: Settings, value: Any) -> Answer:
    if settings.is_on("use_llama_pro"):
        return drop(message("With use_llama_pro."))
    if not isinstance(value, int) or value == 0:
        return refuse(message("Expected a number of layers."))
    # a positive number counts from the last layer there, a negative one from the first
    return take(f"method.trainable={'last' if value > 0 else 'first'}:{abs(value)}")


def _take_modules(settings: Settings, value: Any) -> Answer:
    if show_value(value) == "all":
        return drop(reasons.FULL_LAYERS)
    return refuse(message("method.trainable takes layers or a pattern of names, such as *.mlp.*, and not both."))


def _take_dataset(settings: Settings, value: Any) -> Answer:
    names = [name.strip() for name in show_value(value).split(",") if name.strip()]
    folder = show_value(settings.get("dataset_dir") or "data")
    if folder == "ONLINE":
        return take("data=file", write_word("data.path", [f"hub:{name}" for name in names]))
    if folder.startswith("REMOTE:"):
        return refuse(message("The registry is on the hub; download {folder}, and set data.registry to its folder.",
                              folder=folder.removeprefix("REMOTE:")))
    return take("data=file", write_word("data.registry", folder), write_word("data.dataset", names),
                reason=NAMES_OF_DATA)


def _take_validation(settings: Settings, value: Any) -> Answer:
    if value is None:
        return drop(reasons.EMPTY)
    return take(write_word("data.val_dataset", [name.strip() for name in show_value(value).split(",")]))


def _take_held_out(settings: Settings, value: Any) -> Answer:
    if not value:
        return take("data.val_fraction=0", reason=NO_VALIDATION)
    # below 1 it is a share, from 1 on a number of examples
    return take(write_word("data.val_fraction", value)) if float(value) < 1 else refuse(reasons.NUMBER_HELD_OUT)


def _take_most(settings: Settings, value: Any) -> Answer:
    if value is None:
        return drop(reasons.EMPTY)
    count = len(show_value(settings.get("dataset")).split(","))
    return take(f"data.max_samples={int(value) * count}", reason=reasons.PER_DATASET)


def _take_length(settings: Settings, value: Any) -> Answer:
    if show_value(settings.get("stage")) == "pt":
        # text for pretraining is joined and split at this length there: nothing is cut off
        return take(f"data.max_length={value}")
    return take(f"data.max_length={value}", "data.too_long=truncate", reason=CUT)


def _take_template(settings: Settings, value: Any) -> Answer:
    name = show_value(value)
    if name in BUILT_IN:
        return take(f"data.template={name}")
    if name.endswith(("_nothink", "_no_think")):
        return take("data.enable_thinking=false", reason=reasons.TEMPLATE)
    return drop(reasons.TEMPLATE)


def _take_batch(settings: Settings, value: Any) -> Answer:
    size = settings.get("per_device_train_batch_size") or settings.get("micro_batch_size") or 1
    return take(f"trainer.global_batch_size={int(size) * int(settings.get('gradient_accumulation_steps') or 1)}",
                reason=reasons.BATCH)


def _fold_steps(settings: Settings, value: Any) -> Answer:
    return drop(reasons.IN_BATCH)


def _take_micro(settings: Settings, value: Any) -> Answer:
    return drop(reasons.IN_BATCH) if settings.get("global_batch_size") else _take_batch(settings, value)


def _take_steps(settings: Settings, value: Any) -> Answer:
    return take(f"trainer.max_steps={value}") if isinstance(value, int) and value > 0 else drop(reasons.EMPTY)


def _take_epochs(settings: Settings, value: Any) -> Answer:
    steps = settings.get("max_steps")
    if isinstance(steps, int) and steps > 0:
        return drop(message("The number of steps decides."))
    return take(write_word("trainer.epochs", value))


def _take_warmup(key: str) -> Handler:
    def answer(settings: Settings, value: Any) -> Answer:
        if value is None:
            return drop(reasons.EMPTY)
        if show_value(settings.get("lr_scheduler_type")) in WITHOUT_WARMUP:
            return drop(message("The schedule has no warmup."))
        return take(write_word(f"scheduler.{key}", value))

    return answer


def _take_betas(settings: Settings, value: Any) -> Answer:
    pair = [settings.get("adam_beta1") or 0.9, settings.get("adam_beta2") or 0.999]
    return take(write_word("optim.betas", pair))


def _take_beta(settings: Settings, value: Any) -> Answer:
    if show_value(settings.get("stage")) not in WITH_BETA:
        return drop(message("It belongs to stage=dpo and stage=kto."))
    is_weight = show_value(settings.get("pref_loss")) == "orpo"
    return take(write_word("stage.orpo_weight" if is_weight else "stage.beta", value))


def _take_loss(settings: Settings, value: Any) -> Answer:
    if show_value(settings.get("stage")) != "dpo":
        return drop(message("It belongs to stage=dpo."))
    return convert_by_name(LLAMA_FACTORY, "pref_loss", value)


def _take_sharding(settings: Settings, value: Any) -> Answer:
    """A config of DeepSpeed, by its path or as an object, or the words of FSDP."""
    if value in (None, "", []):
        return drop(reasons.EMPTY)
    words = find_strategy(json.dumps(value) if isinstance(value, Mapping) else show_value(value))
    if words is None:
        return refuse(notes.DEEPSPEED)
    if UNKNOWN_NUMBER in words:
        return refuse(message("The number of devices that hold one model together is strategy.hybrid here; set it."))
    return take(*words.split(), reason=notes.DEEPSPEED if "fsdp" in words else UserMessage())


def _take_attention(settings: Settings, value: Any) -> Answer:
    return take("model.attention=eager") if show_value(value) == "disabled" else drop(notes.ATTENTION)


def _take_model(settings: Settings, value: Any) -> Answer:
    if QUANTISED.search(show_value(value)):
        return refuse(reasons.OTHER_QUANTISATION)
    return take("model=hf", write_word("model.path", value))


def _take_v1_distribution(settings: Settings, value: Any) -> Answer:
    kind = show_value(value)
    if kind == "deepspeed":
        return drop(message("With config_file."))
    return take("strategy=fsdp") if kind in ("fsdp2", "fsdp") else convert_by_name(LLAMA_FACTORY, "strategy", value)


def _take_v1_method(settings: Settings, value: Any) -> Answer:
    given = dict(settings.given)
    bits = given.get("quant_config.quantization_bit")
    return _take_method(Settings({**given, "quantization_bit": bits}), value)


def _take_parallel(settings: Settings, value: Any) -> Answer:
    return refuse(reasons.PARALLEL) if show_value(value) not in ("1", "false", "null") else drop(reasons.OFF)


def _take_code(settings: Settings, value: Any) -> Answer:
    return drop(reasons.CODE if is_true(value) else reasons.OFF)


def _refuse_if_on(reason: UserMessage) -> Handler:
    def answer(settings: Settings, value: Any) -> Answer:
        is_off = value is None or (isinstance(value, bool) and not value)
        return drop(reasons.OFF) if is_off else refuse(reason)

    return answer


def _always_drop(reason: UserMessage) -> Handler:
    return lambda settings, value: drop(reason)


def _resume(settings: Settings, value: Any) -> Answer:
    return drop(reasons.EMPTY) if not value else refuse(reasons.OTHER_CHECKPOINT)


def _take_tracker(settings: Settings, value: Any) -> Answer:
    names = [name.strip().lower() for name in show_value(value).split(",")]
    if names in (["none"], ["null"], ["[]"], [""]):
        return take("logger=none", reason=reasons.METRICS)
    return convert_by_name(LLAMA_FACTORY, "report_to", value)


def _take_precision(option: str) -> Handler:
    return lambda settings, value: take(f"precision={option}") if is_true(value) else drop(reasons.OFF)


NO_IMAGES = _refuse_if_on(reasons.NO_IMAGES)
LAYERWISE = _always_drop(reasons.ONE_LAYER)
ALL_MATRICES = _always_drop(message("Every large matrix, as here."))
HANDLERS: Mapping[str, Handler] = {
    "finetuning_type": _take_method, "quantization_bit": _take_bits, "quantization_method": _take_quantizer,
    **{switch: _take_variant(switch) for switch in VARIANTS},
    "double_quantization": lambda settings, value: convert_by_name(LLAMA_FACTORY, "double_quantization", value)
    if _uses_lora(settings) and settings.get("quantization_bit") is not None else drop(message("With method=qlora.")),
    "lora_rank": _take_rank, "r": _take_rank, "lora_alpha": _take_alpha, "lora_target": _take_targets,
    "target_modules": _take_targets, "oft_target": _take_targets,
    "freeze_trainable_layers": _take_layers, "freeze_trainable_modules": _take_modules,
    "use_llama_pro": _refuse_if_on(PRO), "additional_target": lambda settings, value: take(
        write_word("method.modules_to_save", [name.strip() for name in show_value(value).split(",")])),
    "dataset": _take_dataset, "dataset_dir": _always_drop(message("With dataset.")), "eval_dataset": _take_validation,
    "train_dataset": lambda settings, value: refuse(V1_DATA), "val_size": _take_held_out, "max_samples": _take_most,
    "cutoff_len": _take_length, "template": _take_template,
    "per_device_train_batch_size": _take_batch, "gradient_accumulation_steps": _fold_steps,
    "micro_batch_size": _take_micro, "per_device_eval_batch_size": _fold_steps,
    "max_steps": _take_steps, "num_train_epochs": _take_epochs, "pref_beta": _take_beta,
    "adam_beta1": _take_betas, "adam_beta2": _take_betas,
    "warmup_ratio": _take_warmup("warmup_ratio"), "warmup_steps": _take_warmup("warmup_steps"),
    "pref_loss": _take_loss,
    "deepspeed": _take_sharding, "fsdp": _take_sharding, "dist_config.config_file": _take_sharding,
    "fsdp_transformer_layer_cls_to_wrap": _always_drop(message("Each layer of the decoder is one unit, as here.")),
    "dist_config.name": _take_v1_distribution, "dist_config.dcp_path": _refuse_if_on(reasons.OTHER_CHECKPOINT),
    "cp_mode": _refuse_if_on(reasons.PARALLEL), "cp_size": _take_parallel, "peft_config.name": _take_v1_method,
    "quant_config.name": _take_quantizer, "quant_config": _refuse_if_on(reasons.OTHER_QUANTISATION),
    "kernel_config.name": _always_drop(KERNELS), "include_kernels": _always_drop(KERNELS),
    "init_config.name": _always_drop(message("The weights are read once, and sharded.")),
    "model": _take_model, "model_name_or_path": _take_model, "flash_attn": _take_attention,
    "model_class": lambda settings, value: drop(reasons.SAME) if value == "llm" else refuse(reasons.NO_IMAGES),
    "batching_strategy": _always_drop(message("It changes padding, and no result.")),
    "sample_backend": _always_drop(reasons.GENERATION), "max_new_tokens": _always_drop(reasons.GENERATION),
    "trust_remote_code": _take_code, "resume_from_checkpoint": _resume, "report_to": _take_tracker,
    "bf16": _take_precision("bf16"), "fp16": _take_precision("fp16"), "pure_bf16": _take_precision("pure_bf16"),
    "tokenized_path": _always_drop(message("Tokenized data are cached by a hash.")),
    "save_only_model": _always_drop(message("A checkpoint has all that is needed to resume.")),
    "galore_layerwise": LAYERWISE, "apollo_layerwise": LAYERWISE, "apollo_target": ALL_MATRICES,
    "galore_target": ALL_MATRICES, "apollo_scale_type": lambda settings, value: drop(reasons.SAME)
    if show_value(value) == "channel" else refuse(message("Only scaling by channel is supported.")),
    "badam_mode": lambda settings, value: drop(reasons.SAME) if show_value(value) == "layer" else refuse(
        message("Only switching of layers is supported.")),
    "badam_verbose": _always_drop(reasons.METRICS),
    "pissa_iter": _refuse_if_on(message("The exact decomposition is taken, which -1 is there.")),
    "pissa_convert": _always_drop(message("`fulgurite export` writes an adapter that any library loads.")),
    "disable_gradient_checkpointing": lambda settings, value: take("trainer.gradient_checkpointing=false")
    if is_true(value) else take("trainer.gradient_checkpointing=true"),
    **dict.fromkeys(("image_max_pixels", "image_min_pixels", "video_max_pixels", "video_min_pixels",
                     "freeze_vision_tower", "freeze_multi_modal_projector", "freeze_language_model"), NO_IMAGES),
    **dict.fromkeys(("tensor_model_parallel_size", "pipeline_model_parallel_size", "expert_model_parallel_size",
                     "sequence_parallel"), _take_parallel),
    **dict.fromkeys(("apply_rope_fusion", "bias_activation_fusion", "overlap_grad_reduce", "overlap_param_gather",
                     "moe_token_dispatcher_type", "moe_grouped_gemm", "recompute_granularity",
                     "use_distributed_optimizer"), _always_drop(MEGATRON)),
    **dict.fromkeys(("use_v1_kernels",), _always_drop(KERNELS)),
    **dict.fromkeys(("ray_num_workers", "ray_run_name", "placement_strategy", "resources_per_worker"),
                    _always_drop(STARTED)),
    **dict.fromkeys(("fp8", "fp8_backend", "fp8_enable_fsdp_float8_all_gather"),
                    _refuse_if_on(message("FP8 is not supported; precision=bf16 is the nearest."))),
    "mixture_of_depths": _refuse_if_on(message("Mixture of depths is not supported.")),
    **dict.fromkeys(("use_asft_loss", "asft_alpha", "use_eaft_loss"),
                    _refuse_if_on(message("This loss is not supported; stage.loss=dft is of the same kind."))),
}
DEFAULTS: Mapping[str, Any] = {
    "stage": "sft", "finetuning_type": "lora", "lora_rank": 8, "lora_alpha": None, "cutoff_len": 2048,
    "learning_rate": 5e-5, "num_train_epochs": 3.0, "per_device_train_batch_size": 8, "lr_scheduler_type": "linear",
    "warmup_steps": 0, "val_size": 0.0, "pref_beta": 0.1, "pref_loss": "sigmoid",
}
"""Those of LLaMA-Factory and of transformers' TrainingArguments that differ from ours, or are derived here."""
LLAMA_FACTORY: SourceTrainer = SourceTrainer(
    "LLaMA-Factory", ("LLaMA-Factory", "Hugging Face", "peft", "bitsandbytes", "TRL", "litgpt"), HANDLERS, DEFAULTS,
    {"warmup_steps": ("warmup_ratio",), "val_size": ("eval_dataset",), "num_train_epochs": ("max_steps",)},
    decisive=("stage", "finetuning_type"),
)
VERSION_1 = SourceTrainer(
    "LLaMA-Factory", LLAMA_FACTORY.owners, HANDLERS, {"finetuning_type": "full", "cutoff_len": 2048},
    {"finetuning_type": ("peft_config.name", "quant_config.name")}, ("finetuning_type",),
    ("peft_config", "kernel_config", "dist_config", "init_config", "quant_config"),
)
"""Its second form (`examples/v1`), with other keys in objects."""
