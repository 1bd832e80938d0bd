"""Files of other trainers' settings, in words of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from fulgurite.foreign_names.settings_file import is_settings_file, read_settings

FILES = {
    "llama_factory.yaml": (
        "stage: dpo\ndo_train: true\nfinetuning_type: lora\nlora_rank: 8\nlora_target: all\npref_beta: 0.1\n"
        "per_device_train_batch_size: 2\ngradient_accumulation_steps: 8\nlearning_rate: 1.0e-4\nbf16: true\n"
        "save_only_model: false\n",
        "LLaMA-Factory",
        {"stage=dpo", "method=lora", "method.rank=8", "stage.beta=0.1", "optim.lr=0.0001", "precision=bf16",
         "trainer.global_batch_size=16"},
    ),
    "axolotl.yml": (
        "base_model: a/b\nadapter: qlora\nsequence_len: 512\nmicro_batch_size: 2\nnum_epochs: 3\n"
        "optimizer: adamw_torch\nsample_packing: true\nval_set_size: 0.05\n",
        "axolotl",
        {"model=hf", "model.path=a/b", "method=qlora", "data.max_length=512", "trainer.epochs=3", "optim=adamw",
         "data.packing=best_fit", "data.val_fraction=0.05"},
    ),
    "litgpt.yaml": (
        "checkpoint_dir: a/b\nprecision: bf16-true\ntrain:\n  global_batch_size: 8\n  epochs: 2\n"
        "  lr_warmup_steps: 10\n",
        "litgpt",
        {"model.path=a/b", "precision=pure_bf16", "trainer.global_batch_size=8", "trainer.epochs=2",
         "scheduler.warmup_steps=10"},
    ),
    "trl.json": ('{"learning_rate": 0.1, "num_train_epochs": 1}', "Hugging Face", {"optim.lr=0.1", "trainer.epochs=1"}),
    "lightning.toml": ("[trainer]\nmax_epochs = 2\ngradient_clip_val = 0.5\n", "Lightning",
                       {"trainer.epochs=2", "trainer.max_grad_norm=0.5"}),
}


@pytest.mark.parametrize("name", FILES)
def test_settings_of_another_trainer_become_words(name: str, tmp_path: Path) -> None:
    text, owner, words = FILES[name]
    (tmp_path / name).write_text(text)
    found = read_settings(str(tmp_path / name))
    assert words <= {*found.words}
    assert owner in str(found.reason) or owner == "Hugging Face"


def test_settings_without_a_counterpart_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("learning_rate: 1e-4\nxyzzy: 1\nddp_timeout: 9\nsave_only_model: true\n")
    assert str(read_settings(str(tmp_path / "a.yaml")).note) == "Without a counterpart: xyzzy, save_only_model."


def test_file_that_is_missing_or_no_settings_is_answered_with_a_pattern(tmp_path: Path) -> None:
    (tmp_path / "odd.yaml").write_text("- 1\n")
    (tmp_path / "broken.yaml").write_text("a: [\n")
    for name in ("missing.yaml", "odd.yaml", "broken.yaml"):
        assert read_settings(str(tmp_path / name)).words == ["stage=sft", "method=lora", "optim.lr=1e-4"]


def test_file_of_data_and_config_of_a_run_are_known(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text('[{"instruction": "a"}]')
    assert read_settings(str(tmp_path / "data.json")).words[0] == "data=file"
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.yaml").write_text("stage: {option: sft}\n")
    assert read_settings(str(tmp_path / "config.yaml")).words == [f"resume.run={tmp_path}"]


def test_file_is_known_by_its_ending() -> None:
    assert is_settings_file("a.yml")
    assert not is_settings_file("run_dir=a.yml")
    assert not is_settings_file("a.jsonl")
