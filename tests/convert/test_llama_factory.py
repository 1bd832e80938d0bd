"""LLaMA-Factory's files in our words: single keys by hand, and all of its examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.convert.llama_factory_files import load_examples

from fulgurite.config.compose import compose
from fulgurite.convert.conversion import Conversion, Verdict
from fulgurite.convert.convert import OTHER_USES, convert_file, find_key
from fulgurite.convert.engine import convert_tree
from fulgurite.convert.llama_factory import LLAMA_FACTORY
from fulgurite.errors import ConfigError

EXAMPLES = load_examples()
TRAINING = [name for name, tree in EXAMPLES.items() if not any(find_key(tree, key) for key in OTHER_USES)]
COMPOSED = ("train_lora/qwen3_lora_sft.yaml", "train_lora/qwen3_lora_dpo.yaml", "extras/galore/llama3_full_sft.yaml",
            "extras/oft/llama3_oft_sft.yaml", "train_qlora/qwen3_lora_sft_otfq.yaml",
            "v1/train_freeze/train_freeze_sft.yaml")
"""Some whose words are composed by `make test`; the others by `make matrix`."""
WITHOUT_COUNTERPART = {
    "image_max_pixels", "video_max_pixels", "freeze_vision_tower", "freeze_multi_modal_projector", "fp8", "fp8_backend",
    "fp8_enable_fsdp_float8_all_gather", "use_asft_loss", "asft_alpha", "use_eaft_loss", "mixture_of_depths",
    "use_llama_pro", "pissa_iter", "use_kt", "train_dataset", "dist_config.cp_mode", "dist_config.cp_size",
    "tensor_model_parallel_size", "pipeline_model_parallel_size", "expert_model_parallel_size", "sequence_parallel",
}
"""Keys that are refused whatever their value."""


def _convert(**tree: Any) -> Conversion:
    return convert_tree(LLAMA_FACTORY, {"stage": "sft", **tree}, defaults=False)


def _refused(**tree: Any) -> list[str]:
    return [line.key for line in _convert(**tree).select(Verdict.refused)]


@pytest.mark.parametrize(("tree", "expected"), [
    ({"finetuning_type": "lora"}, "method=lora"),
    ({"finetuning_type": "lora", "quantization_bit": 4}, "method=qlora"),
    ({"finetuning_type": "lora", "use_dora": True}, "method=dora"),
    ({"finetuning_type": "lora", "use_rslora": True, "quantization_bit": 4}, "method=qlora method.variant=rslora"),
    ({"finetuning_type": "full"}, "method=full"),
    ({"finetuning_type": "oft", "oft_block_size": 32, "oft_target": "all"}, "method=oft method.block=32"),
    ({"finetuning_type": "freeze", "freeze_trainable_layers": 8, "freeze_trainable_modules": "all"},
     "method=freeze method.trainable=last:8"),
    ({"finetuning_type": "freeze", "freeze_trainable_layers": -3}, "method=freeze method.trainable=first:3"),
    ({"lora_target": "q_proj,v_proj"}, "method=lora method.targets=[q_proj,v_proj]"),
    ({"lora_target": "all"}, "method=lora"),
    ({"additional_target": "embed_tokens,lm_head"}, "method=lora method.modules_to_save=[embed_tokens,lm_head]"),
    ({"lora_rank": 16}, "method=lora method.rank=16"),
    ({"pissa_init": True}, "method=lora method.init=pissa"),
    ({"finetuning_type": "full", "lora_rank": 16, "lora_alpha": 3}, "method=full"),
    ({"per_device_train_batch_size": 2, "gradient_accumulation_steps": 8}, "method=lora trainer.global_batch_size=16"),
    ({"gradient_accumulation_steps": 8}, "method=lora"),
    ({"max_steps": -1, "num_train_epochs": 2.0}, "method=lora trainer.epochs=2"),
    ({"max_steps": 50, "num_train_epochs": 2.0}, "method=lora trainer.max_steps=50"),
    ({"val_size": 0.1}, "method=lora data.val_fraction=0.1"),
    ({"dataset": "a, b", "dataset_dir": "d"}, "method=lora data=file data.registry=d data.dataset=[a,b]"),
    ({"dataset": "x/y", "dataset_dir": "ONLINE"}, "method=lora data=file data.path=[hub:x/y]"),
    ({"dataset": "a,b", "max_samples": 10},
     "method=lora data=file data.registry=data data.dataset=[a,b] data.max_samples=20"),
    ({"cutoff_len": 512}, "method=lora data.max_length=512 data.too_long=truncate"),
    ({"stage": "pt", "cutoff_len": 512}, "stage=pt method=lora data.max_length=512"),
    ({"template": "llama3"}, "method=lora data.template=llama3"),
    ({"template": "qwen3_nothink"}, "method=lora data.enable_thinking=false"),
    ({"template": "deepseek3"}, "method=lora"),
    ({"stage": "dpo", "pref_beta": 0.2, "pref_loss": "ipo"}, "stage=dpo method=lora stage.beta=0.2 stage.loss=ipo"),
    ({"stage": "dpo", "pref_beta": 0.2, "pref_loss": "orpo"},
     "stage=dpo method=lora stage.orpo_weight=0.2 stage.loss=orpo"),
    ({"pref_beta": 0.2, "pref_loss": "ipo"}, "method=lora"),
    ({"lr_scheduler_type": "constant", "warmup_ratio": 0.1}, "method=lora scheduler=constant"),
    ({"lr_scheduler_type": "cosine", "warmup_ratio": 0.1}, "method=lora scheduler=cosine scheduler.warmup_ratio=0.1"),
    ({"bf16": True}, "method=lora precision=bf16"),
    ({"pure_bf16": True}, "method=lora precision=pure_bf16"),
    ({"flash_attn": "fa2"}, "method=lora"),
    ({"flash_attn": "disabled"}, "method=lora model.attention=eager"),
    ({"deepspeed": "examples/deepspeed/ds_z0_config.json"}, "method=lora strategy=ddp"),
    ({"deepspeed": "ds_z2_offload_config.json"},
     "method=lora strategy=fsdp strategy.reshard=false strategy.offload=true"),
    ({"deepspeed": "ds_z3_config.json"}, "method=lora strategy=fsdp"),
    ({"fsdp": ["full_shard", "auto_wrap"]}, "method=lora strategy=fsdp"),
    ({"report_to": "none"}, "method=lora logger=none"),
    ({"report_to": "wandb"}, "method=lora logger=wandb"),
    ({"adam_beta2": 0.95}, "method=lora optim.betas=[0.9,0.95]"),
    ({"trust_remote_code": True, "resume_from_checkpoint": None, "overwrite_cache": True}, "method=lora"),
])
def test_settings_mean_this_together(tree: dict[str, Any], expected: str) -> None:
    found = _convert(**tree)
    assert not found.select(Verdict.refused)
    assert set(found.words) == {*expected.split(), *(["stage=sft"] if "stage=" not in expected else [])}


@pytest.mark.parametrize(("tree", "key"), [
    ({"quantization_bit": 8}, "quantization_bit"),
    ({"quantization_bit": 4, "finetuning_type": "oft"}, "quantization_bit"),
    ({"quantization_bit": 4, "quantization_method": "hqq"}, "quantization_method"),
    ({"model_name_or_path": "Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4"}, "model_name_or_path"),
    ({"use_dora": True, "use_rslora": True}, "use_rslora"),
    ({"val_size": 100}, "val_size"),
    ({"resume_from_checkpoint": "saves/checkpoint-500"}, "resume_from_checkpoint"),
    ({"apollo_scale_type": "tensor"}, "apollo_scale_type"),
    ({"freeze_trainable_modules": "mlp"}, "freeze_trainable_modules"),
    ({"tensor_model_parallel_size": 2}, "tensor_model_parallel_size"),
    ({"dataset": "a", "dataset_dir": "REMOTE:x/y"}, "dataset"),
    ({"learning_rat": 1e-4}, "learning_rat"),
])
def test_what_cannot_be_the_same_is_refused(tree: dict[str, Any], key: str) -> None:
    assert _refused(**tree) == [key]


def test_defaults_of_llama_factory_make_the_run_the_same() -> None:
    words = convert_tree(LLAMA_FACTORY, {"model_name_or_path": "m", "lora_rank": 4}).words
    assert {"stage=sft", "method=lora", "method.rank=4", "method.alpha=8", "optim.lr=5e-05", "trainer.epochs=3",
            "trainer.global_batch_size=8", "scheduler=linear", "scheduler.warmup_steps=0", "data.val_fraction=0",
            "data.max_length=2048", "data.too_long=truncate"} <= set(words)
    assert not any(word.startswith("stage.") for word in words)


@pytest.mark.parametrize("name", TRAINING)
def test_every_key_of_an_example_has_a_line_with_a_reason(name: str, tmp_path: Path) -> None:
    path = tmp_path / "example.yaml"
    path.write_text(json.dumps(EXAMPLES[name]), encoding="utf-8")  # JSON is YAML
    found = convert_file("llamafactory", str(path))
    keys = {line.key.partition(".")[0] for line in found.lines if not line.is_default}
    assert keys == set(EXAMPLES[name])
    for line in found.lines:
        assert line.words or line.reason, line
        assert line.words == () or line.verdict is Verdict.taken, line
    refused = {line.key for line in found.select(Verdict.refused)}
    assert refused <= WITHOUT_COUNTERPART | {"model_name_or_path", "quantization_bit", "dataset"}, refused


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in COMPOSED else pytest.mark.matrix) for name in TRAINING]
)
def test_the_words_of_an_example_make_a_config(name: str, tmp_path: Path) -> None:
    path = tmp_path / "example.yaml"
    path.write_text(json.dumps(EXAMPLES[name]), encoding="utf-8")
    run = compose(convert_file("llamafactory", str(path)).words).run
    assert run.optim.lr == pytest.approx(float(EXAMPLES[name].get("learning_rate", 5e-5)))


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - set(TRAINING)))
def test_examples_that_train_nothing_are_answered_with_what_to_type(name: str, tmp_path: Path) -> None:
    path = tmp_path / "example.yaml"
    path.write_text(json.dumps(EXAMPLES[name]), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"trains nothing.*fulgurite (chat|export)"):
        convert_file("llamafactory", str(path))
