"""What people type first: each line works, or is answered in one line with what to write.

The first table holds the lines that newcomers typed, the second further ones of the same kinds; all are answered.
"""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from fulgurite.cli.main import main

LLAMA_FACTORY = """
model_name_or_path: meta-llama/Llama-3-8B
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 1.0e-4
bf16: true
save_only_model: false
"""

TYPED = {
    "train optim.learning_rate=1e-4": "Write `fulgurite train optim.lr=1e-4`",
    "train learning_rate=5e-5": "Write `fulgurite train optim.lr=5e-5`",
    "train lora_rank=8": "Write `fulgurite train method.rank=8`",
    "train --lr 1e-4": "Write `fulgurite train optim.lr=1e-4`",
    "train --learning_rate 1e-4 --lora_rank 8": "Write `fulgurite train optim.lr=1e-4 method.rank=8`",
    "train optim.lr = 1e-4": "Write `fulgurite train optim.lr=1e-4`",
    "train optim.lr=abc": "it must be a number",
    "train optim.lr=-1": "it must be 0 to 1",
    "train optim.lr=5": "it must be 0 to 1",
    "train method=Lora": "Write `fulgurite train method=lora`",
    "train method=lora2": "Did you mean lora?",
    "train methd=lora": "Did you mean method?",
    "train scheduler=cosin": "Did you mean cosine?",
    "train data=my_examples.jsonl": "Write `fulgurite train data=file data.path=my_examples.jsonl`",
    "train data.path=my_examples.jsonl": "data=file",
    "train data=file": "data.path=",
    "train llama3_lora_sft.yaml": "optim.lr=0.0001 precision=bf16 trainer.global_batch_size=8`",
    "train --config llama3_lora_sft.yaml": "method=lora method.rank=8",
    "train trainer.epochs=0": "it must be 0 to",
    "train scheduler.warmup_steps=0.1": "a whole number",
    "train method=full method.rank=8": "method=lora",
    "train stage.beta=0.1": "stage=dpo",
    "chat run=latest": "`fulgurite runs` lists runs",
    "export run=/nope out=x": "`fulgurite runs` lists runs",
    "train model.attention=flash": "packed rows are attended document by document, which transformers' flash attention",
    "train trainer=gpu": "Write `fulgurite train trainer.accelerator=cuda`",
    "train model=meta-llama/Llama-3-8B": "Write `fulgurite train model=hf model.path=meta-llama/Llama-3-8B`",
    "train model.path=./my-model": "model=hf",
    "train resume=runs/x": "Write `fulgurite train resume.run=runs/x`",
    "chat runs/xyz": "Write `fulgurite chat run=runs/xyz`",
    "tran": "Did you mean train?",
    "gui": "fulgurite board",
    "webui": "fulgurite board",
    "train optim.lr=1e-4,1e-3": "add -m",
    "train logger=wandb,csv": "Write `fulgurite train 'logger=[wandb,csv]'`",
    "train method.targets=q_proj,v_proj": "Write `fulgurite train 'method.targets=[q_proj,v_proj]'`",
    "train method.target=q_proj": "method.targets",
    "train trainer.micro_batch=16 trainer.batch_size=7": "trainer.micro_batch_size=16 trainer.global_batch_size=7`",
    "train optim=adam": "Write `fulgurite train optim=adamw`",
    "train precision=bfloat16": "Write `fulgurite train precision=bf16`",
    "train precision=16-mixed": "Write `fulgurite train precision=fp16`",
    "train trainer.accelerator=gpu": "Write `fulgurite train trainer.accelerator=cuda`",
    "train strategy=deepspeed": "Write `fulgurite train strategy=fsdp`. DeepSpeed is not offered",
    "train strategy=deepspeed_stage_3": "Write `fulgurite train strategy=fsdp`",
    "train strategy=deepspeed_stage_2_offload": "strategy=fsdp strategy.reshard=false strategy.offload=true`",
    "train strategy=fsdp2": "Write `fulgurite train strategy=fsdp`",
    "train strategy=zero3": "Write `fulgurite train strategy=fsdp`",
    "train deepspeed=examples/deepspeed/ds_z3_config.json": "Write `fulgurite train strategy=fsdp`",
    "train --deepspeed ds_z2_config.json": "Write `fulgurite train strategy=fsdp strategy.reshard=false`",
    "explain strategy=deepspeed": "strategy=deepspeed is written strategy=fsdp here",
    "plan llama3_lora_sft.yaml": "Write `fulgurite plan model=hf model.path=meta-llama/Llama-3-8B",
    "train seed=-1": "it must be 0 to 4294967295",
    "train data.val_fraction=20": "it must be 0 to 1",
    "train data=file data.path=my_examples.jsonl data.max_length=4": "at least 8",
    "train --lang zh learning_rate=5e-5": "fulgurite train optim.lr=5e-5",
}
MORE = {
    "train sft": "Write `fulgurite train stage=sft`",
    "train --bf16 --output_dir out": "Write `fulgurite train precision=bf16 run_dir=out`",
    "train -lr 1e-4": "Write `fulgurite train optim.lr=1e-4`",
    "train --optim.lr=1e-4 -m": "optim.lr=1e-4",
    "train --stage dpo --beta 0.1": "Write `fulgurite train stage=dpo stage.beta=0.1`",
    "train gradient_accumulation_steps=8": "trainer.global_batch_size=...",
    "train per_device_train_batch_size=4 gradient_accumulation_steps=8": "train trainer.global_batch_size=32`",
    "train --per-device-train-batch-size 4 --gradient_accumulation_steps=8": "train trainer.global_batch_size=32`",
    "train optim=sgd optim.betas=[0.9,0.9]": "To use it, write optim=adamw optim.betas=[0.9,0.9].",
    "train trainer=mps": "The kind of device is trainer.accelerator=auto, cpu or cuda.",
    "train load_in_4bit=true r=8": "Write `fulgurite train method=qlora method.rank=8`",
    "train use_unsloth=true": "no counterpart",
    "train precision=bf16-true": "precision=pure_bf16",
    "train precision=32-true": "precision=fp32",
    "train trainer.precision=16-mixed": "precision=fp16",
    "train trainer.max_epochs=3": "Write `fulgurite train trainer.epochs=3`",
    "train optim.lr: 1e-4": "Write `fulgurite train optim.lr=1e-4`",
    "train meta-llama/Llama-3-8B": "Write `fulgurite train model=hf model.path=meta-llama/Llama-3-8B`",
    "train my_examples.jsonl": "Write `fulgurite train data=file data.path=my_examples.jsonl`",
    "train nope.yaml": "settings are words",
    "train method.rank=１０００００": "it must be",
    "train optim.lr 1e-4 seed=1": "Write `fulgurite train optim.lr=1e-4 seed=1`",
    "train 'optim.lr=1e-4 method.rank=8'": "Write `fulgurite train optim.lr=1e-4 method.rank=8`",
    "train optim.lr==1e-4": "Write `fulgurite train optim.lr=1e-4`",
    "train optim.lr=1e-4, seed=1": "Write `fulgurite train optim.lr=1e-4 seed=1`",
    "train optim.lr=0,0001": "Write `fulgurite train optim.lr=0.0001`",
    "train optim.lr=": "it must be a number",
    "train model=llama3": "Another model is model=hf model.path=FOLDER",
    "train data=alpaca": "Other data is data=file data.path=FILE.",
    "train 学习率=1e-4": "Write `fulgurite train optim.lr=1e-4`",
    "train stage=simpo": "Write `fulgurite train stage=dpo stage.loss=simpo`",
    "train model=hf model.path=.": "has no config.json",
    "board --port abc": "a number from 1 to 65535",
    "fit": "Write `fulgurite train`",
    "train ｏｐｔｉｍ.lr＝-1": "it must be 0 to 1",
    "train --xyzzy 3": "no flag --xyzzy",
    "chat --run runs/x": "Write `fulgurite chat run=runs/x`",
    "export runs/x out": "Write `fulgurite export run=runs/x out=out`",
    "stage=dpo": "Write `fulgurite train stage=dpo`",
    "merge": "fulgurite export",
    "infer": "fulgurite chat",
}

NAMES = {"Hugging Face", "LLaMA Board", "flash attention", "fulgurite board", "fulgurite train"}
"""Two words in a row that are a name."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "llama3_lora_sft.yaml").write_text(LLAMA_FACTORY)
    (tmp_path / "my_examples.jsonl").write_text('{"instruction": "a", "output": "b"}\n' * 4)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("line", "answer"), (TYPED | MORE).items())
def test_line_is_answered_with_what_to_write(
    line: str, answer: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(shlex.split(line)) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert answer in lines[0]


@pytest.mark.parametrize("line", [line for line in TYPED | MORE if "--lang" not in line])
def test_answer_in_chinese_is_chinese(line: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """But for names, commands and what was typed there are no English words in it."""
    assert main([*shlex.split(line), "--lang", "zh"]) == 2
    answer = capsys.readouterr().err.strip()
    assert answer.startswith("错误：")
    commands = re.sub(r"`[^`]*`|[；，。：]", "|", answer.removeprefix("错误："))
    bare = re.sub(r"[^\s|]*[=/_.][^\s|]*|--?[a-z-]+", "|", commands)
    words = re.findall(r"[A-Za-z]{2,}(?: [A-Za-z]{2,})+", bare)
    assert [found for found in words if found not in NAMES] == [], answer
    assert "。 " not in answer


def test_word_help_is_the_help_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "help"]) == 0
    assert "[GROUP=OPTION]" in capsys.readouterr().out


def test_answer_needs_no_torch(folder: Path) -> None:
    import subprocess

    code = (
        "import sys; from fulgurite.cli.main import main; main(['train', '--lr', '1e-4']); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
