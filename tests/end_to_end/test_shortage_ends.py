"""Out of memory where nothing can be halved, while the weights load, and beneath open trackers."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors import SafetensorError
from tests.end_to_end.runs import rows, tiny

from fulgurite.cli.main import main
from fulgurite.errors import ModelError, TrainingFailed
from fulgurite.logger.guard import GuardedLogger
from fulgurite.model import load
from fulgurite.model.config import Hf
from fulgurite.stage.causal_lm import LanguageStage
from fulgurite.stage.policy import PolicyStage
from fulgurite.train import assembly

SAID = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "8 bytes."
)
HERE = Path(__file__).parent
WORDS = ["method=lora", "optim.lr=1e-2", "trainer.max_steps=5", "trainer.micro_batch_size=2", "trainer.save_every=2",
    "trainer.eval_every=2"]


def state(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "status.json").read_text())
    return found


# -- refusals: one line, three remedies, exit 3 ------------------------------------------------------------------------


ANSWERS = ("stage.reward=['count:e']", "stage.max_new_tokens=4", "trainer.global_batch_size=8",
    "trainer.micro_batch_size=4")


@pytest.mark.parametrize(("words", "cls", "name", "why"), [
    (("stage=grpo", *ANSWERS), PolicyStage, "compute_total_loss", "stage=grpo does not restart inside a rollout"),
    (("stage=ppo", *ANSWERS), PolicyStage, "compute_total_loss", "stage=ppo does not restart inside a rollout"),
    (
        ("privacy=dp_sgd", "privacy.noise_seed=7", "trainer.global_batch_size=8", "trainer.micro_batch_size=4",
            "data.max_samples=80"),
        LanguageStage, "compute_row_losses", "a private run draws no step twice",
    ),
], ids=["grpo", "ppo", "private"])
def test_what_is_not_halved_ends_in_one_line(
    tmp_path: Path, words: tuple[str, ...], cls: Any, name: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = getattr(cls, name)

    def short(self: Any, batch: dict[str, Any]) -> torch.Tensor:
        if self._trainer is not None and self.training and self.trainer.global_step == 1:
            raise RuntimeError(SAID)
        found: torch.Tensor = plain(self, batch)
        return found

    monkeypatch.setattr(cls, name, short)
    with pytest.raises(TrainingFailed,
        match=rf"^Out of memory at step 2: trainer\.micro_batch_size=4.*; {why}\. Try ") as told:
        tiny(tmp_path, *words, "trainer.max_steps=3")
    assert told.value.exit_status == 3
    assert "\n" not in str(told.value)
    remedies = re.findall(r"[a-z_.]+=[a-z0-9_]+", str(told.value).partition(" Try ")[2])
    assert len(remedies) == 3
    assert state(tmp_path)["state"] == "failed"
    assert [row["step"] for row in rows(tmp_path) if "train/lr" in row] == [1]


@pytest.mark.slow
def test_a_shortage_in_one_process_ends_all_of_them_with_its_reason(tmp_path: Path) -> None:
    done = command(tmp_path, "trainer.devices=2", "trainer.global_batch_size=8", SHORT_RANK="1")
    assert done.returncode == 3, done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in done.stderr
    reasons = [line for line in told if "Out of memory at step 4" in line]
    assert len([line for line in reasons if "; the other processes cannot follow. Try " in line]) == 1


def command(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`fulgurite train` in a process of its own, in which step 4 runs out of memory."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]), "WANDB_MODE": "offline", **environment}
    given = [
        "model=tiny", "precision=fp32", "stage.prompts=[]", "data.max_samples=60", "plugins=[shortage_plugin]",
        f"run_dir={folder}",
    ]
    given += [*WORDS, *([] if "trainer.devices=2" in words else ["trainer.global_batch_size=4"])]
    return subprocess.run(
        [sys.executable, "-m", "fulgurite", "train", *given, *words], capture_output=True, text=True, check=False,
        timeout=300, env=env,
    )


# -- while the weights load --------------------------------------------------------------------------------------------


ERRORS = [
    RuntimeError(SAID), MemoryError(), OSError(12, "Cannot allocate memory"),
    SafetensorError("Cannot allocate memory (os error 12)"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_weights_that_do_not_fit_are_one_line(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def start(*_: object) -> None:
        raise error

    monkeypatch.setattr(assembly, "load_start", start)
    words = [
        "model=tiny", "precision=bf16", "method=full", "data.max_samples=60", "logger=csv",
        f"run_dir={tmp_path / 'run'}",
    ]
    assert main(["train", *words, "plan.allow=[steps.too-few]"]) == 3
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(told) == 1
    pattern = (
        r"error: Out of memory while the weights were loaded and made ready: the plan counts [\d.]+ GB for that and "
        r"[\d.]+ GB for training; [\d.]+ GB were free on this cpu before\. Try method=qlora, a smaller model or "
        r"closing other programs\."
    )
    assert re.fullmatch(pattern, told[0])
    assert state(tmp_path / "run")["state"] == "failed"
    assert "Out of memory" in state(tmp_path / "run")["why"]
    left = sorted(p.relative_to(tmp_path / "run").as_posix() for p in (tmp_path / "run").rglob("*"))
    # whole, and none beside them
    assert left == ["config.yaml", "data_report.json", "provenance.json", "status.json", "troubles.json"]
    for name in left:
        (yaml.safe_load if name.endswith(".yaml") else json.loads)((tmp_path / "run" / name).read_text())


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_model_that_does_not_fit_is_no_broken_model(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    class Loader:
        @staticmethod
        def from_pretrained(*_: object, **__: object) -> None:
            raise error

    monkeypatch.setattr(load, "AutoTokenizer", Loader)
    monkeypatch.setattr(load, "locate", lambda path, *_, **__: Path(path))
    with pytest.raises(type(error)):
        load.load("nowhere", Hf(path="nowhere"), torch.float32)


def test_another_error_of_a_model_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    class Loader:
        @staticmethod
        def from_pretrained(*_: object, **__: object) -> None:
            raise RuntimeError("size mismatch")

    monkeypatch.setattr(load, "AutoTokenizer", Loader)
    monkeypatch.setattr(load, "locate", lambda path, *_, **__: Path(path))
    with pytest.raises(ModelError, match="size mismatch"):
        load.load("nowhere", Hf(path="nowhere"), torch.float32)


# -- trackers ----------------------------------------------------------------------------------------------------------


class Tracker:
    def __init__(self) -> None:
        self.calls: list[Any] = []

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.calls.append((step, *metrics))

    def log_text(self, key: str, columns: list[str], data: list[list[str]], step: int) -> None:
        self.calls.append((step, key))

    def correct(self, knob: str, value: Any, reason: str) -> None:
        self.calls.append((knob, value))

    def finalize(self, status: str) -> None:
        self.calls.append(status)


def test_a_tracker_gets_each_step_once_though_the_run_goes_back() -> None:
    tracker, closed = Tracker(), []
    one = GuardedLogger(lambda: tracker, name="x", close=closed.append)
    one.hold()
    one.log_text("samples", ["a"], [["b"]], 0)
    for step in (1, 2, 3):
        one.log_metrics({"a": step}, step)
    one.log_metrics({"val/loss": 1.0}, 2)
    one.finalize("failed")  # Lightning's word of every fit that ends with an error
    one.go_back()
    one.correct("k", 1, "why")
    one.log_text("samples", ["a"], [["b"]], 0)
    for step in (2, 3, 4):
        one.log_metrics({"a": step}, step)
    one.log_metrics({"val/loss": 1.0}, 2)
    one.log_metrics({"val/loss": 1.0}, 3)
    one.log_text("watch", ["a"], [["b"]], 3)
    one.finalize("success")
    first = [(0, "samples"), (1, "a"), (2, "a"), (3, "a"), (2, "val/loss")]
    assert tracker.calls == [*first, ("k", 1), (4, "a"), (3, "val/loss"), (3, "watch"), "success"]
    assert closed == [tracker]


def test_a_run_that_fails_for_good_closes_its_trackers_as_failed() -> None:
    tracker = Tracker()
    one = GuardedLogger(lambda: tracker, name="x")
    one.hold()
    one.log_metrics({"a": 1.0}, 1)
    one.finalize("failed")
    assert tracker.calls[-1:] != ["failed"]
    one.let_go()
    assert tracker.calls == [(1, "a"), "failed"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_tracker_has_each_step_once_after_a_shortage(tmp_path: Path) -> None:
    done = command(tmp_path, "logger=[csv,tensorboard,wandb]", "data.val_fraction=0.1")
    assert done.returncode == 0, done.stderr
    assert "Out of memory at step 4: trainer.micro_batch_size is 1 instead of 2 from here on" in done.stderr
    assert "switched off" not in done.stderr
    truth = [(row["step"], "val/loss" in row) for row in rows(tmp_path)]
    assert truth == [(1, False), (2, False), (2, True), (3, False), (4, False), (4, True), (5, False)]
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert [int(line.split(",")[0]) for line in lines[1:]] == [step for step, _ in truth]
    assert on_the_board(tmp_path / "tensorboard") == {"train/loss": [1, 2, 3, 4, 5], "val/loss": [2, 4]}
    files = list((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == 1  # one run
    history, config = offline(files[0])
    assert [int(row["trainer/global_step"]) for row in history if "train/loss" in row] == [1, 2, 3, 4, 5]
    assert [int(row["trainer/global_step"]) for row in history if "val/loss" in row] == [2, 4]
    assert config["trainer.micro_batch_size"] == 1
    assert config["provenance"]["trainer.micro_batch_size"]["reason"].startswith("halved from 2")


def on_the_board(folder: Path) -> dict[str, list[int]]:
    """The steps of both losses in TensorBoard's files, of which there is one."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert len(list(folder.glob("events.*"))) == 1
    events = EventAccumulator(str(folder))
    events.Reload()
    return {name: [event.step for event in events.Scalars(name)] for name in ("train/loss", "val/loss")}


def offline(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The history and the last config of a .wandb file: LevelDB's log format behind seven bytes, of protobufs."""
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

    data, at, parts = path.read_bytes(), 7, b""
    history: list[dict[str, Any]] = []
    config: dict[str, Any] = {}
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        size, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        parts, at = parts + data[at + 7 : at + 7 + size], at + 7 + size
        if kind in (1, 4):  # whole, or the last of its parts
            record, parts = Record.FromString(parts), b""
            items = [(".".join(i.nested_key) or i.key, json.loads(i.value_json)) for i in record.history.item]
            history += [dict(items)] if items else []
            updates = [*record.config.update, *record.run.config.update]
            config |= {i.key or ".".join(i.nested_key): json.loads(i.value_json) for i in updates}
    return history, config
