"""The names of other trainers: each leads to what exists here, and those that people ask for to the right parameter."""

from __future__ import annotations

import pytest

from fulgurite.config.choices import list_names as list_options
from fulgurite.config.schema import list_groups
from fulgurite.explain.knob_index import list_every_knob
from fulgurite.foreign_names.table import (
    count_edits,
    find_containing,
    find_names,
    find_similar,
    list_candidates,
    list_foreign_names,
    list_names,
)

EXPECTED = {
    "learning_rate": "optim.lr", "lora_rank": "method.rank", "lora_alpha": "method.alpha",
    "lora_dropout": "method.dropout", "lora_target": "method.targets", "cutoff_len": "data.max_length",
    "pref_beta": "stage.beta", "pref_loss": "stage.loss", "pref_ftx": "stage.sft_weight",
    "simpo_gamma": "stage.gamma", "finetuning_type": "method", "freeze_trainable_layers": "method.trainable",
    "freeze_extra_modules": "method.extra_trainable", "num_train_epochs": "trainer.epochs",
    "per_device_train_batch_size": "trainer.micro_batch_size",
    "gradient_accumulation_steps": "trainer.global_batch_size", "lr_scheduler_type": "scheduler",
    "warmup_steps": "scheduler.warmup_steps", "warmup_ratio": "scheduler.warmup_ratio",
    "val_size": "data.val_fraction", "max_samples": "data.max_samples", "template": "data.template",
    "dataset": "data.path", "dataset_dir": "data.registry", "quantization_bit": "method=qlora",
    "use_rslora": "method=rslora", "use_dora": "method=dora", "use_galore": "optim=galore",
    "galore_rank": "optim.rank", "use_badam": "optim=badam", "packing": "data.packing",
    "neat_packing": "data.packing", "train_on_prompt": "data.mask", "mask_history": "data.mask",
    "additional_target": "method.modules_to_save", "compute_type": "precision", "reward_model": "stage.reward",
    "ppo_score_norm": "stage.whiten_rewards", "flash_attn": "model.attention",
    "enable_thinking": "data.enable_thinking", "output_dir": "run_dir", "eval_steps": "trainer.eval_every",
    "save_steps": "trainer.save_every", "logging_steps": "trainer.log_every", "load_best_model_at_end": "",
    "early_stopping_patience": "trainer.early_stopping_patience", "max_grad_norm": "trainer.max_grad_norm",
    "weight_decay": "optim.weight_decay", "adam_beta1": "optim.betas", "adam_epsilon": "optim.eps", "optim": "optim",
    "bf16": "precision=bf16", "fp16": "precision=fp16", "gradient_checkpointing": "trainer.gradient_checkpointing",
    "dataloader_num_workers": "trainer.num_workers", "report_to": "logger", "seed": "seed",
    "resume_from_checkpoint": "resume.run", "max_length": "data.max_length",
    "max_completion_length": "stage.max_new_tokens", "num_generations": "stage.num_generations", "beta": "stage.beta",
    "loss_type": "stage.loss", "ref_model": "stage.reference", "label_smoothing": "stage.label_smoothing",
    "kl_coef": "stage.kl_coefficient", "cliprange": "stage.clip_high", "vf_coef": "stage.vf_coef",
    "gamma": "stage.gamma_discount", "lam": "stage.gae_lambda", "whiten_rewards": "stage.whiten_rewards",
    "missing_eos_penalty": "stage.missing_eos_penalty", "neftune_noise_alpha": "stage.neftune_alpha",
    "assistant_only_loss": "data.mask", "completion_only_loss": "data.mask", "r": "method.rank",
    "target_modules": "method.targets", "modules_to_save": "method.modules_to_save",
    "init_lora_weights": "method.init", "rank_pattern": "method.rank_pattern", "load_in_4bit": "method=qlora",
    "bnb_4bit_quant_type": "method.quant_type", "bnb_4bit_use_double_quant": "method.double_quant",
    "sequence_len": "data.max_length", "micro_batch_size": "trainer.micro_batch_size", "adapter": "method",
    "base_model": "model.path", "val_set_size": "data.val_fraction", "global_batch_size": "trainer.global_batch_size",
    "precision": "precision", "devices": "trainer.devices", "num_nodes": "trainer.num_nodes", "strategy": "strategy",
    "accumulate_grad_batches": "trainer.global_batch_size", "gradient_clip_val": "trainer.max_grad_norm",
    "max_epochs": "trainer.epochs", "max_steps": "trainer.max_steps", "accelerator": "trainer.accelerator",
    "学习率": "optim.lr", "截断长度": "data.max_length", "批处理大小": "trainer.micro_batch_size",
    "训练轮数": "trainer.epochs", "最大梯度范数": "trainer.max_grad_norm", "计算类型": "precision",
    "学习率调节器": "scheduler", "LoRA秩": "method.rank", "验证集比例": "data.val_fraction",
    "预热步数": "scheduler.warmup_steps",
}
"""What people asked `fulgurite explain` for, and the parameter, option or group that answers; empty if nothing
corresponds and a sentence gives the reason. All of them are found."""

MISLEADING = {
    "gradient_clipping": "trainer.gradient_checkpointing", "train_on_prompt": "trainer.compile",
    "mask_history": "stage.mask_truncated", "flash_attn": "method.alpha_pattern", "deepspeed": "sweep.seed",
    "adapter": "optim=adafactor", "cutoff": "precision=auto", "adam_beta1": "optim=adamw_8bit", "liger": "logger",
    "r": "optim.lr", "use_rslora": "sweep=rm_lora", "max_grad_norm": "privacy.max_grad_norm",
}
"""What these names were answered with by likeness alone."""


@pytest.mark.parametrize(("name", "target"), EXPECTED.items())
def test_name_that_people_ask_for_leads_to_its_parameter(name: str, target: str) -> None:
    first = find_names(name)[0]
    assert target in first.targets if target else first.note and not first.targets


@pytest.mark.parametrize(("name", "wrong"), MISLEADING.items())
def test_no_name_leads_where_likeness_alone_led(name: str, wrong: str) -> None:
    found = find_names(name)
    assert found
    assert wrong not in {target for entry in found for target in entry.targets}


def test_there_are_many_names_of_several_owners() -> None:
    assert len(list_candidates()) >= 500
    owners = {
        "LLaMA-Factory", "LLaMA Board", "Hugging Face", "TRL", "peft", "bitsandbytes", "axolotl", "litgpt", "Lightning",
    }
    assert owners <= {entry.owner for entry in list_names()}


def test_every_target_exists() -> None:
    paths, groups = {knob.path for knob in list_every_knob()}, set(list_groups())
    for entry in list_names():
        words = [*entry.words.split(), *(word for words in entry.values.values() for word in words.split())]
        for word in words:
            head, _, value = word.partition("=")
            option = head in groups and (value in ("", "{value}") or value in list_options(head))
            assert head in paths or option, (entry.name, word)


def test_every_name_has_words_or_a_reason() -> None:
    assert [entry.name for entry in list_names() if not entry.words and not entry.note] == []


def test_no_owner_has_a_name_twice() -> None:
    pairs = [(entry.owner, entry.name) for entry in list_names()]
    assert len(pairs) == len(set(pairs))


def test_names_of_a_parameter_are_listed_with_their_owners() -> None:
    found = list_foreign_names("optim.lr")
    assert ("LLaMA-Factory", "learning_rate") in found
    assert ("LLaMA Board", "学习率") in found
    assert ("LLaMA-Factory", "quantization_bit") in list_foreign_names("method=qlora")
    assert list_foreign_names("nothing.here") == []


@pytest.mark.parametrize("word", ["--learning-rate", "Learning rate", "LEARNING_RATE", "optim.learning_rate", "学习率"])
def test_spelling_of_a_name_does_not_matter(word: str) -> None:
    assert find_names(word)[0].words == "optim.lr"


def test_likeness_is_few_letters() -> None:
    assert find_similar("learning_rte", ["learning_rate", "loss"]) == ["learning_rate"]
    assert find_similar("methd", ["method", "stage"]) == ["method"]
    assert find_similar("gradient_clipping", ["gradient_checkpointing"]) == []
    assert find_similar("r", ["lr"]) == []
    assert (count_edits("abcd", "abdc"), count_edits("kitten", "sitting"), count_edits("", "ab")) == (1, 3, 2)


def test_part_of_a_name_is_enough_if_it_is_a_whole_word() -> None:
    known = ["scheduler.warmup_ratio", "scheduler.warmup_steps", "trainer.gradient_checkpointing", "optim.lr"]
    assert find_containing("warmup", known) == ["scheduler.warmup_ratio", "scheduler.warmup_steps"]
    assert find_containing("use_gradient_checkpointing", known) == ["trainer.gradient_checkpointing"]
    assert find_containing("warm", known) == []
    assert find_containing("my_lr", known) == []

