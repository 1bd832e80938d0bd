"""Two processes with a part of every weight each are one process with all of them: losses, checkpoints, resuming."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.end_to_end.runs import copy_until, losses, rows, tiny, weights
from tests.stage.preference_data import words_of, written
from tests.strategy.together import train_together

from fulgurite.checkpoint.io import FolderCheckpointIO
from fulgurite.cli.main import main
from fulgurite.run.load import load_run

FSDP = ["strategy=fsdp", "trainer.accelerator=cpu"]
# 9 examples a step: the processes get 5 and 4. In the last step of an epoch the second process has none for two of its
# micro-batches. 7 validation examples, 2 at a time: the second process has one batch less.
NINE = [
    "trainer.global_batch_size=9", "trainer.micro_batch_size=2", "trainer.max_steps=4", "data.max_samples=47",
    "trainer.eval_every=2", "data.val_fraction=0.15", "trainer.save_every=2",
]
METHODS = {
    "full": ["method=full", "optim.lr=1e-3"],
    "lora": ["method=lora", "optim.lr=1e-2", "method.loraplus_lr_ratio=4"],
    "qlora": ["method=qlora", "optim.lr=1e-2"],
    "freeze": ["method=freeze", "optim.lr=1e-3"],
    "oft": ["method=oft", "optim.lr=1e-2"],
    "ia3": ["method=ia3", "optim.lr=1e-2"],
    "vera": ["method=vera", "optim.lr=1e-2"],
    "llama_pro": ["method=llama_pro", "optim.lr=1e-3"],
}
STAGES = ("sft", "pt", "rm", "dpo", "kto")
# a stage, a method, more words of both runs, and words of the sharded one
MORE = {
    "aot": ("dpo", "lora", ["stage.loss=aot"], []),
    "precomputed": ("dpo", "full", ["stage.reference_mode=precomputed"], []),
    "packed": ("sft", "full", ["data.packing=best_fit", "data.max_length=400", "data.max_samples=200"], []),
    "value": ("sft", "full", ["trainer.clip_algorithm=value", "trainer.max_grad_norm=0.01"], []),
    "sgd": ("sft", "full", ["optim=sgd", "optim.lr=0.1"], []),
    "lion": ("sft", "full", ["optim=lion", "optim.lr=3e-4"], []),
    "schedule_free": ("sft", "full", ["optim=schedule_free", "scheduler=constant_with_warmup"], []),
    "adam_mini": ("sft", "full", ["optim=adam_mini"], []),
    "zero2": ("sft", "full", [], ["strategy.reshard=false"]),
    "offload": ("sft", "full", [], ["strategy.offload=true"]),
    "copies": ("sft", "full", [], ["strategy.hybrid=1"]),
    "recompute": ("sft", "full", [], ["strategy.activation_checkpointing=true"]),
}
TESTED = (("sft", "full"), ("dpo", "full"))
"""The cells of `make test`: one model, and a policy with a reference."""
MATRIX = pytest.mark.matrix


def words_of_stage(stage: str, folder: Path) -> list[str]:
    """The words of a stage's data, with the data in `folder`."""
    if stage == "sft":
        return []
    if stage != "pt":
        return words_of(stage, folder)
    texts = [{"text": f"{n} " * (n % 13 + 2)} for n in range(60)]
    return ["stage=pt", "data=file", f"data.path={written(folder / 'pt.jsonl', texts)}"]


def check_same(found: Path, expected: Path) -> None:
    """The rows of metrics and the weights of two runs are equal but for the order of sums."""
    for mine, theirs in zip(rows(found), rows(expected), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-5, abs=1e-5)
    for name, tensor in weights(expected).items():
        torch.testing.assert_close(weights(found)[name], tensor, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("stage", "method"), [
    pytest.param(stage, method, id=f"{stage}-{method}", marks=() if (stage, method) in TESTED else MATRIX)
    for stage in STAGES for method in METHODS
])
def test_two_processes_are_one(stage: str, method: str, tmp_path: Path) -> None:
    words = [*words_of_stage(stage, tmp_path), *METHODS[method], *NINE]
    one = tiny(tmp_path / "one", *words)
    train_together(2, (tmp_path / "two", [*words, *FSDP]))
    assert len(losses(one)) == 4
    check_same(tmp_path / "two", one)


@MATRIX
@pytest.mark.parametrize("name", MORE)
def test_two_processes_are_one_with(name: str, tmp_path: Path) -> None:
    stage, method, both, sharded = MORE[name]
    words = [*words_of_stage(stage, tmp_path), *METHODS[method], *NINE, *both]
    one = tiny(tmp_path / "one", *words)
    train_together(2, (tmp_path / "two", [*words, *FSDP, *sharded]))
    check_same(tmp_path / "two", one)


def read_bytes(folder: Path, step: int) -> dict[str, bytes]:
    """The files of a checkpoint."""
    place = folder / "checkpoints" / f"step-{step}"
    return {path.name: path.read_bytes() for path in place.iterdir() if path.name != "manifest.json"}


# method: more words. Each optimizer's state has another form.
RESUMED = {
    "full": ["method=full", "optim=adamw", "optim.lr=1e-3"],
    "lora": ["method=lora", "optim=schedule_free", "scheduler=constant_with_warmup", "optim.lr=1e-3"],
    "rows": ["method=full", "optim=adam_mini", "optim.lr=1e-3"],
    "parts": ["method=full", "optim=adamw", "optim.lr=1e-3", "strategy.shard_checkpoint_gb=0"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [
    "parts", *(pytest.param(name, marks=MATRIX) for name in RESUMED if name != "parts"),
])
def test_a_run_resumes_bit_for_bit_and_on_other_numbers_of_processes(name: str, tmp_path: Path) -> None:
    words = [*RESUMED[name], *NINE, *FSDP]
    whole, again, one, three = (tmp_path / part for part in ("whole", "again", "one", "three"))
    train_together(2, (whole, words))
    for place in (again, one, three):
        copy_until(whole, place, 2)
    train_together(2, (again, words))
    assert read_bytes(again, 4) == read_bytes(whole, 4)
    assert rows(again) == rows(whole)
    allowed = [*words, "resume.allow=[trainer.devices]"]
    train_together(1, (one, [*allowed, "trainer.devices=1"]))
    train_together(3, (three, allowed))
    for place in (one, three):
        assert losses(place) == pytest.approx(losses(whole), rel=1e-6)
        for key, tensor in weights(whole).items():
            torch.testing.assert_close(weights(place)[key], tensor, rtol=1e-6, atol=1e-6)


def test_a_checkpoint_in_parts_is_the_one_in_single_files(tmp_path: Path) -> None:
    """One device resumes from it, and its export is the same."""
    words = ["method=full", "optim.lr=1e-3", *NINE]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train_together(2, (whole, [*words, *FSDP]), (parts, [*words, *FSDP, "strategy.shard_checkpoint_gb=0"]))
    names = {path.name for path in (parts / "checkpoints" / "step-4").iterdir()}
    assert names == {"manifest.json", "state.json", "state.safetensors", *(
        f"{group}-{n:05}-of-00002.safetensors" for group in ("weights", "optimizer") for n in (1, 2)
    )}
    check_equal_runs(parts, whole)
    assert main(["export", f"run={parts}", f"out={tmp_path / 'out'}"]) == 0
    exported, expected = load_file(tmp_path / "out" / "model.safetensors"), load_run(whole, "best").model.state_dict()
    assert all(torch.equal(expected[name], tensor.to(torch.float32)) for name, tensor in exported.items())
    device = copy_until(parts, tmp_path / "device", 2)
    tiny(device, *words, "resume.allow=[strategy,trainer.devices,trainer.accelerator]")
    assert losses(device) == pytest.approx(losses(whole), rel=1e-6)


def check_equal_runs(found: Path, expected: Path) -> None:
    """Two runs have the same rows of metrics, and checkpoints with the same content, in whatever files."""
    assert rows(found) == rows(expected)
    left, right = (FolderCheckpointIO().load_checkpoint(run / "checkpoints" / "last") for run in (found, expected))
    assert all(torch.equal(left["state_dict"][name], tensor) for name, tensor in right["state_dict"].items())
    states = [loaded["optimizer_states"][0]["state"] for loaded in (left, right)]
    assert states[0].keys() == states[1].keys()
    for number, state in states[1].items():
        assert all(torch.equal(states[0][number][name], value) for name, value in state.items())


def test_the_checkpoint_of_two_processes_is_that_of_one_device(tmp_path: Path) -> None:
    """The same files, names, shapes and types, and samples; export and chat read it, and one device resumes from it."""
    words = ["method=lora", "optim.lr=1e-2", *NINE, "stage.prompts=[Rank?,Warmup is]", "stage.max_new_tokens=3"]
    one, two = tiny(tmp_path / "one", *words), tmp_path / "two"
    train_together(2, (two, [*words, *FSDP]))
    assert list_files(two) == list_files(one)
    assert (two / "samples.jsonl").read_text() == (one / "samples.jsonl").read_text()
    for name in ("weights", "optimizer"):
        left, right = (load_file(run / "checkpoints" / "step-4" / f"{name}.safetensors") for run in (one, two))
        assert {k: (t.shape, t.dtype) for k, t in left.items()} == {k: (t.shape, t.dtype) for k, t in right.items()}
    states = [json.loads((run / "checkpoints" / "step-4" / "state.json").read_bytes()) for run in (one, two)]
    assert states[0]["optimizer"] == states[1]["optimizer"]
    expected, found = (load_run(run, "last").model.state_dict() for run in (one, two))
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, rtol=1e-5, atol=1e-5)
    assert main(["export", f"run={two}", f"out={tmp_path / 'out'}"]) == 0
    assert (tmp_path / "out" / "model.safetensors").is_file()
    copy = copy_until(two, tmp_path / "copy", 2)
    tiny(copy, *words, "resume.allow=[strategy,trainer.devices,trainer.accelerator]")
    assert losses(copy) == pytest.approx(losses(two), rel=1e-6)


def list_files(folder: Path) -> list[str]:
    """The files of a run's checkpoints."""
    return sorted(str(path.relative_to(folder)) for path in (folder / "checkpoints").rglob("*"))
