"""The memory trial: it changes no number, halves a micro-batch that is too large, and is left out of small runs."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.end_to_end.runs import rows, tiny, weights
from torch import nn

from fulgurite.errors import TrainingFailed, is_shortage
from fulgurite.run.folder import read_config, read_provenance
from fulgurite.stage.causal_lm import LanguageStage
from fulgurite.text.console import VERBOSE
from fulgurite.train import memory_trial as trial_step
from fulgurite.train.memory_trial import limit_memory, restore_after

CONFIRMED = "confirmed by a trial step"
SAID = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "8 bytes."
)
LORA = ("method=lora", "method.dropout=0.1", "optim.lr=1e-2", "scheduler=constant")
PAIRS = ("data=guide_preference", "stage=dpo", "method=lora", "method.dropout=0.1", "optim.lr=1e-3")


def reason(folder: Path) -> str:
    return str(read_provenance(folder)["knobs"]["trainer.micro_batch_size"]["reason"])


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every run is tried, however small; the list is the rows of each micro-batch that was."""
    plain, seen = trial_step.has_room, []

    def goes_through(stage: Any, batch: dict[str, Any], model: Any, rows: int) -> bool:
        seen.append(len(batch["rows"]))
        return plain(stage, batch, model, rows)

    monkeypatch.setattr(trial_step, "NEEDLESS", 0.0)
    monkeypatch.setattr(trial_step, "has_room", goes_through)
    return seen


@pytest.mark.parametrize("words", [
    (*LORA, "stage.neftune_alpha=5", "trainer.eval_every=1", "trainer.save_every=1"),
    ("method=full", "optim.lr=1e-3", "precision=bf16", "trainer.gradient_checkpointing=true", "data.packing=best_fit"),
    ("method=qlora", "method.dropout=0.1", "optim.lr=1e-2", "precision=bf16"),
    (*PAIRS, "stage.loss=aot"),
    ("data=guide_preference", "stage=dpo", "stage.loss=bco_pair", "method=full", "optim.lr=1e-3"),
    ("data=guide_preference", "stage=kto", "method=lora", "method.dropout=0.1", "optim.lr=1e-3"),
    ("data=guide_preference", "stage=rm", "method=lora", "method.dropout=0.1", "optim.lr=1e-2"),
], ids=["sft", "packed", "qlora", "aot", "bco_pair", "kto", "rm"])
def test_a_run_that_was_tried_is_one_that_was_not(
    tmp_path: Path, words: tuple[str, ...], tried: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = words if "stage=rm" in words else (*words, "stage.prompts=['Why?']")
    found = tiny(tmp_path / "tried", *words)
    assert tried == [read_config(found)["trainer"]["micro_batch_size"]]
    assert CONFIRMED in reason(found)
    monkeypatch.setattr(trial_step, "NEEDLESS", 1.0)
    plain = tiny(tmp_path / "plain", *words)
    assert len(tried) == 1
    assert CONFIRMED not in reason(plain)
    assert rows(found) == rows(plain)
    one, two = weights(found), weights(plain)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    for name in ("samples.jsonl", "watch.jsonl"):
        if (plain / name).exists():
            assert (found / name).read_text() == (plain / name).read_text()


def test_the_memory_trial_takes_the_longest_rows_and_prints_so(
    tmp_path: Path, tried: list[int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, batches = LanguageStage.compute_total_loss, []

    def compute_total_loss(self: LanguageStage, batch: dict[str, Any]) -> torch.Tensor:
        if self.training:
            batches.append((self._trainer is not None, batch["input_ids"].shape[1], len(batch["rows"])))
        return plain(self, batch)

    monkeypatch.setattr(LanguageStage, "compute_total_loss", compute_total_loss)
    monkeypatch.setenv(VERBOSE, "1")  # as `train -v` does
    folder = tiny(tmp_path, *LORA, "trainer.max_steps=14")  # an epoch: each row is seen
    assert [fitting for fitting, _, _ in batches].count(False) == 1
    assert batches[0][1] == max(tokens for fitting, tokens, _ in batches if fitting)
    assert batches[0][2] == read_config(folder)["trainer"]["micro_batch_size"]
    assert f"{CONFIRMED} on the longest examples, {batches[0][1]} tokens" in capsys.readouterr().err
    assert reason(folder).endswith(f"{CONFIRMED} on the longest examples, {batches[0][1]} tokens")


def short_above(monkeypatch: pytest.MonkeyPatch, most: int, only_trials: bool = True) -> None:
    """Memory suffices for `most` rows at a time."""
    plain = LanguageStage.compute_total_loss

    def compute_total_loss(self: LanguageStage, batch: dict[str, Any]) -> torch.Tensor:
        found = plain(self, batch)
        if len(batch["rows"]) > most and (self._trainer is None or not only_trials):
            raise RuntimeError(SAID)
        return found

    monkeypatch.setattr(LanguageStage, "compute_total_loss", compute_total_loss)


def test_too_large_a_micro_batch_is_halved_before_the_first_step(
    tmp_path: Path, tried: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    half = tiny(tmp_path / "half", *LORA, "trainer.micro_batch_size=1", "data.max_length=128")
    assert tried == []  # it was given
    short_above(monkeypatch, 1, only_trials=False)
    found = tiny(tmp_path / "found", *LORA, "data.max_length=128")
    assert tried == [4, 2, 1]
    assert read_config(found)["trainer"]["micro_batch_size"] == 1
    assert reason(found).startswith(
        "4 was out of memory in a trial step; the mathematics is the same for every value; confirmed"
    )
    assert rows(found) == rows(half)
    one, two = weights(found), weights(half)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_not_even_one_row_is_one_line(tmp_path: Path, tried: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    short_above(monkeypatch, 0)
    line = (
        r"^Out of memory in the trial step on the longest examples: trainer.micro_batch_size=1, longest example \d+ "
        r"tokens \(.+\); it cannot be halved, "
        r"and given as trainer.micro_batch_size=1 it is not tried beforehand. Try .+=.+, .+=.+, .+=.+\. The last"
    )
    with pytest.raises(TrainingFailed, match=line) as told:
        tiny(tmp_path, *LORA, "data.max_length=128")
    assert told.value.exit_status == 3
    assert tried == [4, 2, 1]
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "failed"


def test_a_resumed_run_is_not_tried_again(tmp_path: Path, tried: list[int]) -> None:
    tiny(tmp_path, *LORA, "trainer.max_steps=2")
    assert len(tried) == 1
    tiny(tmp_path, *LORA, "trainer.max_steps=3", "resume.allow=[trainer.max_steps]")
    assert len(tried) == 1
    assert CONFIRMED in reason(tmp_path)


ANSWERS = ("stage.reward=['count:e']", "stage.max_new_tokens=4")


@pytest.mark.parametrize("words", [
    ("stage=grpo", *ANSWERS, "trainer.max_steps=1"),
    ("stage=ppo", *ANSWERS, "trainer.max_steps=1"),
    ("privacy=dp_sgd", "privacy.noise_seed=7", "trainer.global_batch_size=8", "data.max_samples=80"),
    ("trainer.micro_batch_size=2",),
], ids=["grpo", "ppo", "private", "given"])
def test_what_cannot_be_tried_is_not(tmp_path: Path, tried: list[int], words: tuple[str, ...]) -> None:
    assert CONFIRMED not in reason(tiny(tmp_path, *words))
    assert tried == []


def test_other_errors_of_a_trial_are_raised(tmp_path: Path, tried: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def compute_total_loss(self: LanguageStage, batch: dict[str, Any]) -> torch.Tensor:
        raise RuntimeError("The size of tensor a (3) must match the size of tensor b (4)")

    monkeypatch.setattr(LanguageStage, "compute_total_loss", compute_total_loss)
    with pytest.raises(RuntimeError, match="The size of tensor a"):
        tiny(tmp_path, *LORA)


# -- the two contexts -------------------------------------------------------------------------------------------------


class Counter(nn.Module):
    """Keeps state in every way that a module can."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.seen = 0
        self.sums = {"a": 1.0}
        self.window: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen, self.sums["b"], self.later = self.seen + 1, 2.0, True
        self.window.append(1)
        self.norm.running_var = torch.ones(3) * 5  # another tensor in the buffer's place
        noise = torch.rand(3) * random.random() * np.random.rand()
        out: torch.Tensor = self.norm(x * noise)
        return out


@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_as_it_was(fails: bool) -> None:
    module, sums, calls = Counter(), None, []
    sums, handle = module.sums, module.register_forward_hook(lambda *_: calls.append(1))
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    state = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    try:
        with restore_after(module):
            module(torch.randn(4, 3)).sum().backward()
            assert module.norm.weight.grad is not None
            assert not torch.equal(module.norm.running_mean, before["norm.running_mean"])
            if fails:
                raise MemoryError
    except MemoryError:
        assert fails
    assert module.norm.weight.grad is None
    assert (module.seen, module.sums, module.window, hasattr(module, "later")) == (0, {"a": 1.0}, [], False)
    assert module.sums is sums
    assert all(torch.equal(buffer, before[name]) for name, buffer in module.named_buffers())
    assert torch.equal(torch.get_rng_state(), state[0])
    assert random.getstate() == state[1]
    assert (np.random.get_state()[1] == state[2]).all()
    handle.remove()  # hooks are found by the dict that they were put into
    module(torch.randn(4, 3))
    assert calls == [1]


def test_what_goes_beyond_the_free_memory_is_an_error_that_can_be_caught() -> None:
    beyond = 1 << 31  # more than earlier tests can have left free in this process's own heap, which is not refused
    with limit_memory("cpu", 1 << 26):
        assert torch.empty(1 << 24, dtype=torch.uint8).numel() == 1 << 24
        with pytest.raises((RuntimeError, MemoryError)) as told:
            torch.empty(beyond, dtype=torch.uint8)
    assert is_shortage(told.value)
    assert torch.empty(beyond, dtype=torch.uint8).numel() == beyond


def test_a_gpu_refuses_by_itself() -> None:
    with limit_memory("cuda", 1 << 26):
        assert torch.empty(1 << 28, dtype=torch.uint8).numel() == 1 << 28
