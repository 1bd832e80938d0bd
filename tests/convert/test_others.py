"""axolotl's and TRL's files in our words."""

from __future__ import annotations

from typing import Any

import pytest

from fulgurite.config.compose import compose
from fulgurite.convert.conversion import Verdict
from fulgurite.convert.engine import SourceTrainer, convert_tree
from fulgurite.convert.llama_factory import LLAMA_FACTORY, VERSION_1
from fulgurite.convert.others import AXOLOTL, TRL

AXOLOTL_FILE = {
    # the keys of axolotl's examples/llama-3/qlora.yml, with values of our own
    "base_model": "NousResearch/Meta-Llama-3-8B", "load_in_8bit": None, "load_in_4bit": True, "adapter": "qlora",
    "datasets": [{"path": "tatsu-lab/alpaca", "type": "alpaca"}, {"path": "./mine.jsonl", "type": "chat_template"}],
    "val_set_size": 0.05, "output_dir": "./outputs/qlora-out", "sequence_len": 4096, "sample_packing": True,
    "lora_r": 32, "lora_alpha": 16, "lora_dropout": 0.05, "lora_target_linear": True, "lora_target_modules": None,
    "wandb_project": None, "gradient_accumulation_steps": 4, "micro_batch_size": 2, "num_epochs": 4,
    "optimizer": "paged_adamw_8bit", "lr_scheduler": "cosine", "learning_rate": 0.0002, "bf16": True, "tf32": False,
    "gradient_checkpointing": True, "resume_from_checkpoint": None, "logging_steps": 1, "flash_attention": True,
    "warmup_ratio": 0.1, "weight_decay": 0.0,
}


def test_an_axolotl_file_is_taken_whole() -> None:
    found = convert_tree(AXOLOTL, AXOLOTL_FILE)
    assert not found.select(Verdict.refused), found.select(Verdict.refused)
    assert {"model.path=NousResearch/Meta-Llama-3-8B", "method=qlora", "method.rank=32", "method.alpha=16",
            "data=file", "data.path=[hub:tatsu-lab/alpaca,./mine.jsonl]", "data.max_length=4096",
            "data.packing=best_fit", "data.val_fraction=0.05", "trainer.global_batch_size=8", "trainer.epochs=4",
            "optim=paged_adamw_8bit", "optim.lr=0.0002", "scheduler.warmup_ratio=0.1"} <= set(found.words)
    assert compose(found.words).run.method.rank == 32


@pytest.mark.parametrize(("tree", "words"), [
    ({}, "method=full"), ({"adapter": "lora"}, "method=lora"), ({"rl": "simpo"}, "stage=dpo stage.loss=simpo"),
    ({"rl": "kto", "adapter": "lora"}, "stage=kto method=lora"),
])
def test_axolotl_trains_every_weight_without_an_adapter(tree: dict[str, Any], words: str) -> None:
    assert set(words.split()) <= set(convert_tree(AXOLOTL, tree, defaults=False).words)


@pytest.mark.parametrize(("tree", "key"), [
    ({"rl": "prm"}, "rl"), ({"adapter": "llama-adapter"}, "adapter"), ({"val_set_size": 200}, "val_set_size"),
    ({"test_datasets": [{"path": "x"}]}, "test_datasets"), ({"datasets": [{"type": "alpaca"}]}, "datasets"),
])
def test_axolotl_settings_without_a_counterpart_are_refused(tree: dict[str, Any], key: str) -> None:
    assert [line.key for line in convert_tree(AXOLOTL, tree).select(Verdict.refused)] == [key]


@pytest.mark.parametrize("value", ["abc", [1], {"a": 1}, True, float("inf"), -1, None])
@pytest.mark.parametrize("source", [AXOLOTL, TRL, LLAMA_FACTORY, VERSION_1], ids=lambda source: source.owner)
def test_a_value_of_any_type_has_a_line(source: SourceTrainer, value: Any) -> None:
    for key in (*source.handlers, *source.defaults):
        found = convert_tree(source, {key: value})
        assert key in {line.key.partition(".")[0] for line in found.lines} | {line.key for line in found.lines}, key


def test_a_trl_file_has_the_defaults_of_its_trainer() -> None:
    found = convert_tree(TRL, {
        "model_name_or_path": "Qwen/Qwen2-0.5B", "dataset_name": "trl-lib/Capybara", "learning_rate": 2e-4,
        "per_device_train_batch_size": 2, "gradient_accumulation_steps": 8, "use_peft": True, "lora_r": 32,
        "lora_alpha": 16, "num_train_epochs": 1, "eval_strategy": "steps", "push_to_hub": False,
    })
    assert {"model.path=Qwen/Qwen2-0.5B", "data=file", "data.path=[hub:trl-lib/Capybara]", "method=lora",
            "method.rank=32", "trainer.global_batch_size=16", "optim.lr=0.0002", "data.max_length=1024",
            "scheduler=linear", "trainer.epochs=1"} <= set(found.words)


@pytest.mark.parametrize(("tree", "method"), [
    ({}, "full"), ({"use_peft": True}, "lora"), ({"use_peft": True, "load_in_4bit": True}, "qlora"),
])
def test_trl_trains_every_weight_unless_peft_is_used(tree: dict[str, Any], method: str) -> None:
    assert f"method={method}" in convert_tree(TRL, tree).words


def test_the_trackers_of_axolotl_are_ours() -> None:
    tree = {
        "wandb_project": "mine", "wandb_entity": "team", "wandb_name": "first", "wandb_log_model": "checkpoint",
        "adapter": "lora",
    }
    found = convert_tree(AXOLOTL, tree, defaults=False)
    assert not found.select(Verdict.refused), found.select(Verdict.refused)
    run = compose(found.words).run
    assert (run.logger["wandb"].project, run.logger["wandb"].entity, run.name) == ("mine", "team", "first")
    assert str(run.logger["wandb"].checkpoints) == "all"
    found = convert_tree(AXOLOTL, {"mlflow_experiment_name": "e", "mlflow_tracking_uri": "http://host:5000"})
    assert compose(found.words).run.logger["mlflow"].experiment_name == "e"
