"""Files of other trainers: what is read, what is refused, and the same run by both texts."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import LoraConfig, get_peft_model
from transformers import get_scheduler

import fulgurite as fg
from fulgurite.convert.convert import convert_file
from fulgurite.errors import ConfigError

TEXT = """\
### model
model_name_or_path: ignored
### method
stage: sft
finetuning_type: lora
lora_rank: 4
lora_target: q_proj,v_proj
### dataset
dataset: sums
dataset_dir: {folder}
cutoff_len: 256
### train
per_device_train_batch_size: 2
gradient_accumulation_steps: 2
learning_rate: 1.0e-2
num_train_epochs: 1.0
lr_scheduler_type: cosine
warmup_ratio: 0.25
max_grad_norm: 0.5
adam_beta2: 0.95
weight_decay: 0.01
"""


def _write(folder: Path, text: str, name: str = "file.yaml") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft asks transformers for it
def test_a_run_by_our_words_is_the_run_by_the_file(tmp_path: Path) -> None:
    """Trains once by the converted words, and once by the values of the YAML in a plain loop of transformers and peft
    over the same rows."""
    rows = [{"instruction": f"{n} + {n}?", "output": f"{2 * n}, " * (n % 3 + 1)} for n in range(16)]
    (tmp_path / "sums.json").write_text(json.dumps(rows), encoding="utf-8")
    (tmp_path / "dataset_info.json").write_text(json.dumps({"sums": {"file_name": "sums.json"}}), encoding="utf-8")
    values = yaml.safe_load(TEXT.format(folder=tmp_path))
    converted = convert_file("llamafactory", _write(tmp_path, TEXT.format(folder=tmp_path))).words
    experiment = fg.experiment(
        *(word for word in converted if word.partition("=")[0] not in ("model", "model.path")), "model=tiny",
        "precision=fp32", "trainer.accelerator=cpu", "data.shuffle=false", "stage.prompts=[]", "callback=none",
        "optim.weight_decay_on=all", "plan.allow=[steps.too-few]", f"run_dir={tmp_path / 'run'}",
    )
    theirs = _build_model(experiment.module.model, values)
    experiment.fit()
    found = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    ours = [row["train/loss"] for row in found if "train/loss" in row]
    assert ours == pytest.approx(_train(theirs, experiment.gathered.template.tokenizer, rows, values), abs=2e-5)
    assert len(ours) == 4
    assert ours[-1] < ours[0] - 0.02  # a thousand times the tolerance


def _build_model(ours: Any, values: dict[str, Any]) -> Any:
    """Returns the base of our model with an adapter of the YAML's values, which starts with the weights of ours."""
    rank, start = values["lora_rank"], {name: p.detach().clone() for name, p in ours.named_parameters()}
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=values["lora_target"].split(","), lora_dropout=0.0)
    model = get_peft_model(copy.deepcopy(ours).unload(), config)
    missing = model.load_state_dict(start, strict=False)
    assert not missing.unexpected_keys
    return model


def _train(model: Any, tokenizer: Any, rows: list[dict[str, Any]], values: dict[str, Any]) -> list[float]:
    """Trains as transformers' Trainer does: the mean over the learned tokens of a step, clipped."""
    size = values["per_device_train_batch_size"] * values["gradient_accumulation_steps"]
    steps = len(rows) // size
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, values["learning_rate"], (0.9, values["adam_beta2"]),
                                  weight_decay=values["weight_decay"])
    schedule = get_scheduler(values["lr_scheduler_type"], optimizer, math.ceil(values["warmup_ratio"] * steps), steps)
    losses = []
    for step in range(steps):
        total, count = torch.zeros(()), 0
        for row in rows[step * size : (step + 1) * size]:
            question = [{"role": "user", "content": row["instruction"]}]
            prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_dict=False)
            answer = {"role": "assistant", "content": row["output"]}
            whole = tokenizer.apply_chat_template([*question, answer], return_dict=False)
            text = tokenizer.decode(whole).rstrip("\n")  # the newline after the end of a turn is not learned
            ids = torch.tensor([tokenizer(text, add_special_tokens=False).input_ids])
            logits = model(ids).logits[0, len(prompt) - 1 : -1]
            total = total + torch.nn.functional.cross_entropy(logits, ids[0, len(prompt) :], reduction="sum")
            count += ids.shape[1] - len(prompt)
        loss = total / count
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, values["max_grad_norm"])
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(("text", "match"), [
    ("- a\n- b", "holds no settings"), ("{", "This is not YAML"), ("a: &x 1\nb: *x", "aliases"),
    ("colour: red", "no setting of LLaMA-Factory that is known"),
    ("compute_environment: LOCAL_MACHINE\ndistributed_type: FSDP", "a file of accelerate"),
    ("do_predict: true\nstage: sft", "generates answers, and trains nothing"),
    ("export_dir: x", "exports a model, and trains nothing"), ("infer_backend: huggingface", "talks with a model"),
])
def test_a_file_without_a_training_is_refused(tmp_path: Path, text: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        convert_file("llamafactory", _write(tmp_path, text))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml cannot be read"):
        convert_file("trl", str(tmp_path / "gone.yaml"))
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        convert_file("trl", str(tmp_path / "bytes.yaml"))
    (tmp_path / "long.yaml").write_text("a: 1\n" * 300_000, encoding="utf-8")
    with pytest.raises(ConfigError, match="is larger than 1,000,000 bytes"):
        convert_file("trl", str(tmp_path / "long.yaml"))


def test_another_trainer_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no conversion from axolot\. Did you mean axolotl\? There are llamafactory"):
        convert_file("axolot", _write(tmp_path, "a: 1"))


def test_the_second_form_of_llama_factory_trains_every_weight_by_default(tmp_path: Path) -> None:
    text = "model: m\nmodel_class: llm\ntrain_dataset: d.yaml\nmicro_batch_size: 2\n"
    assert "method=full" in convert_file("llamafactory", _write(tmp_path, text), defaults=False).words
    adapter = f"{text}peft_config:\n  name: lora\n  r: 16\n  lora_alpha: 32\n  target_modules: all\n"
    words = convert_file("llamafactory", _write(tmp_path, adapter)).words
    assert {"method=lora", "method.rank=16", "method.alpha=32", "trainer.global_batch_size=2"} <= set(words)
