"""`privacy=dp_sgd` in whole runs: it learns, stops and goes on bit for bit, and is exported."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.end_to_end.runs import losses, rows, tiny, weights

from fulgurite.callback.metrics_logger import MetricsLogger
from fulgurite.config.stored import rebuild_run
from fulgurite.errors import CheckpointError, Interrupted
from fulgurite.explain.search import search
from fulgurite.export.model import export_main
from fulgurite.privacy.accountant import compute_epsilon
from fulgurite.run.folder import read_config
from fulgurite.text.console import VERBOSE

PRIVATE = ["privacy=dp_sgd", "privacy.noise_seed=7", "trainer.global_batch_size=8", "trainer.micro_batch_size=3",
    "data.max_samples=80"]


def account(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "privacy.json").read_text())
    return found


@pytest.mark.parametrize(
    ("method", "precision"),
    [
        ("full", "fp32"), ("lora", "bf16"),
        *(pytest.param(*pair, marks=pytest.mark.matrix) for pair in (
            ("freeze", "fp32"), ("lora", "fp32"), ("full", "pure_bf16"),
        )),
    ],
)
def test_with_a_large_budget_it_learns(tmp_path: Path, method: str, precision: str) -> None:
    words = [f"method={method}", f"precision={precision}", "privacy.epsilon=1000"]
    words += ["optim.lr=1e-2", "trainer.max_steps=25", "scheduler=constant"]
    folder = tiny(tmp_path / "run", *PRIVATE, *words)
    found = losses(folder)
    assert sum(found[-3:]) / 3 < sum(found[:3]) / 3 - 0.05
    assert not [n for n in weights(folder) if "_module" in n]
    assert 0.99 * 1000 < account(folder)["epsilon"] <= 1000


def test_other_optimizers_step_on_the_same_private_gradient(tmp_path: Path) -> None:
    names = ("adamw", "sgd", "adafactor")
    folders = [tiny(tmp_path / name, *PRIVATE, f"optim={name}", "trainer.max_steps=2") for name in names]
    first, *others = [next(row for row in rows(folder) if "train/lr" in row) for folder in folders]
    for other in others:
        assert other["train/grad_norm"] == first["train/grad_norm"]
        assert other["privacy/epsilon"] == first["privacy/epsilon"]
    assert [account(folder)["steps"] for folder in folders] == [2, 2, 2]


def test_pre_training_is_private_too_and_does_not_pack(tmp_path: Path) -> None:
    path = tmp_path / "text.jsonl"
    path.write_text(
        "".join(
            json.dumps({"text": f"Document {n}: " + "the rate rises and falls. " * (n % 5 + 1)}) + "\n"
            for n in range(60)
        )
    )
    folder = tiny(
        tmp_path / "run",
        *PRIVATE,
        "stage=pt",
        "data=file",
        f"data.path={path}",
        "data.max_samples=60",
        "trainer.max_steps=2",
    )
    assert read_config(folder)["data"]["packing"] == "none"
    assert account(folder)["steps"] == 2


def test_the_logged_and_saved_epsilon_is_that_of_the_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VERBOSE, "1")  # as `train -v` does
    folder = tiny(tmp_path / "run", *PRIVATE, "trainer.max_steps=5")
    told = account(folder)
    assert (told["steps"], told["expected_batch_size"], told["unit"], told["accountant"]) == (
        5,
        8,
        "one example added or removed",
        "rdp",
    )
    assert told["sampling_rate"] == 8 / told["rows"]
    spell = (told["noise_multiplier"], told["sampling_rate"])
    logged = [row["privacy/epsilon"] for row in rows(folder) if "train/lr" in row]
    assert logged == [compute_epsilon([(*spell, n)], told["delta"]) for n in range(1, 6)]
    assert told["epsilon"] == logged[-1]
    assert 0.99 * 8 < logged[-1] <= 8
    words = capsys.readouterr().err
    assert "privacy.noise_multiplier = " in words
    assert "trainer.max_grad_norm is off" in words
    assert f"Privacy: epsilon {logged[-1]:.3g} at delta" in words
    assert "whoever reads config.yaml can remove the noise" in words
    assert not (folder / "noise_seed").exists()


def cut_off(folder: Path, step: int, *words: str) -> None:
    """Train until a signal comes after `step`."""
    real = MetricsLogger.on_step

    def signalled(self: MetricsLogger, trainer: Any, stage: Any, now: int) -> None:
        real(self, trainer, stage, now)
        if now == step:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MetricsLogger, "on_step", signalled)
        with pytest.raises(Interrupted):
            tiny(folder, *words)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_stopped_and_resumed_is_the_run_that_never_stopped(tmp_path: Path, method: str) -> None:
    # with an expected batch of one row, some steps draw none
    words = [*PRIVATE, f"method={method}", "trainer.max_steps=9", "trainer.global_batch_size=1", "optim.lr=1e-3"]
    whole = tiny(tmp_path / "whole", *words)
    assert 0.0 in [row.get("privacy/rows") for row in rows(whole)]
    cut_off(tmp_path / "cut", 4, *words)
    told = account(tmp_path / "cut")
    assert told["steps"] == 4
    assert told["epsilon"] == compute_epsilon([(told["noise_multiplier"], told["sampling_rate"], 4)], told["delta"])
    assert told["epsilon"] < account(whole)["epsilon"]
    tiny(tmp_path / "cut", *words)
    assert rows(tmp_path / "cut") == rows(whole)
    assert account(tmp_path / "cut") == account(whole)
    assert account(whole)["steps"] == 9
    found, expected = weights(tmp_path / "cut"), weights(whole)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[n], expected[n]) for n in expected)


def test_without_a_given_seed_two_runs_differ_and_one_goes_on(tmp_path: Path) -> None:
    words = [*PRIVATE, "privacy.noise_seed=null", "trainer.max_steps=3"]
    one, two = tiny(tmp_path / "one", *words), tmp_path / "two"
    cut_off(two, 2, *words)
    (two / "noise_seed").rename(tmp_path / "aside")
    with pytest.raises(CheckpointError, match="noise_seed is missing"):
        tiny(two, *words)
    (two / "noise_seed").write_text((one / "noise_seed").read_text())
    tiny(two, *words)
    assert losses(one)[:2] != losses(two)[:2]
    assert (one / "noise_seed").read_text() == (two / "noise_seed").read_text()
    assert losses(one)[2] != losses(two)[2]


def test_micro_batches_change_nothing(tmp_path: Path) -> None:
    same = ["privacy.epsilon=100", "trainer.max_steps=3", "optim.lr=1e-3"]
    whole, *others = [tiny(tmp_path / str(m), *PRIVATE, f"trainer.micro_batch_size={m}", *same) for m in (8, 3, 1)]
    for other in others:
        assert losses(other) == pytest.approx(losses(whole), rel=1e-5)
        for name, tensor in weights(whole).items():
            torch.testing.assert_close(weights(other)[name], tensor, rtol=1e-3, atol=2e-5)


def test_a_private_run_is_exported(tmp_path: Path) -> None:
    folder = tiny(tmp_path / "run", *PRIVATE)
    assert export_main([f"run={folder}", f"out={tmp_path / 'out'}"]) == 0
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert not (tmp_path / "out" / "noise_seed").exists()


def test_a_run_from_before_privacy_goes_on_as_one_without(tmp_path: Path) -> None:
    cut_off(tmp_path, 1, "trainer.max_steps=3")
    text = (tmp_path / "config.yaml").read_text()
    older = text.replace("privacy:\n  option: none\n", "")
    assert older != text
    (tmp_path / "config.yaml").write_text(older)
    assert rebuild_run(read_config(tmp_path)).privacy.name == "none"
    assert len(losses(tiny(tmp_path, "trainer.max_steps=3"))) == 3


def test_privacy_cannot_be_added_to_a_run_that_began_without(tmp_path: Path) -> None:
    more = ["trainer.global_batch_size=8", "data.max_samples=80", "trainer.micro_batch_size=3", "trainer.max_steps=3"]
    cut_off(tmp_path, 1, *more)
    with pytest.raises(CheckpointError, match=r"privacy \"none\" → \"dp_sgd\""):
        tiny(tmp_path, *more, "privacy=dp_sgd", "privacy.noise_seed=7")


def test_who_looks_for_dpo_as_the_article_names_it_finds_both() -> None:
    for asked in ("differential privacy", "differential privacy optimization", "DPO"):
        assert "privacy=dp_sgd" in search(asked)
    assert "Direct Preference Optimization" in " ".join(search("differential privacy optimization").split())
