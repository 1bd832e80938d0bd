"""`fulgurite train` on the tiny model: every option listed trains, and the run folder holds what it says."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest
import torch
from tests.end_to_end.runs import FULL_ONLY, RATES, SMALL, losses, rows, tiny, weights
from tests.forked import train_in_two_processes

from fulgurite.config.compose import compose
from fulgurite.config.run import load_options
from fulgurite.config.schema import build, list_options
from fulgurite.errors import CheckpointError, ConfigError, DataError, ModelError
from fulgurite.run.folder import read_config

TEXT = [f"Document {n}: " + "the rate rises and falls, and the loss goes down. " * (n % 5 + 1) for n in range(60)]


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    path = tmp_path / "text.jsonl"
    path.write_text("".join(json.dumps({"text": t}) + "\n" for t in TEXT))
    return path


TRAINED = [(m, o) for o in RATES for m in ("full", "lora") if m == "full" or o not in FULL_ONLY]


@pytest.mark.parametrize(("method", "optim"), TRAINED)
def test_every_method_and_optimizer_lowers_the_loss(tmp_path: Path, method: str, optim: str) -> None:
    words = [
        f"method={method}", f"optim={optim}", f"optim.lr={RATES[optim]}", "trainer.max_steps=25", "scheduler=constant",
    ]
    words += SMALL.get(optim, [])
    found = losses(tiny(tmp_path, *words))
    assert len(found) == 25
    assert sum(found[-3:]) / 3 < sum(found[:3]) / 3 - 0.05


def test_the_lists_above_are_all_there_is() -> None:
    load_options()
    assert len(list_options("method")) == 9  # all of them train in tests/method
    assert sorted(list_options("optim")) == sorted(RATES)
    assert len(RATES) == 12
    assert len(list_options("scheduler")) == 10


@pytest.mark.parametrize("method", ["full", "lora"])
def test_pre_training_packs_and_learns(tmp_path: Path, text_file: Path, method: str) -> None:
    words = [
        "stage=pt", "data=file", f"data.path={text_file}", "data.max_samples=60", f"method={method}", "optim.lr=1e-2",
    ]
    found = losses(tiny(tmp_path / "run", *words, "trainer.global_batch_size=2", "trainer.max_steps=20"))
    assert sum(found[-3:]) / 3 < sum(found[:3]) / 3 - 0.2
    report = json.loads((tmp_path / "run" / "data_report.json").read_text())
    assert report["rows_an_epoch"] < report["trained"]  # several documents a row


@pytest.mark.parametrize(
    "name",
    ["linear", "cosine", "cosine_with_restarts", "cosine_with_min_lr", "polynomial", "constant",
     "constant_with_warmup", "inverse_sqrt",
     "warmup_stable_decay", "reduce_lr_on_plateau"],
)
def test_every_scheduler_trains_and_the_logged_rate_is_its_curve(tmp_path: Path, name: str) -> None:
    folder = tiny(
        tmp_path,
        f"scheduler={name}",
        "trainer.max_steps=6",
        "optim.lr=1e-3",
        "trainer.eval_every=1",
        "data.val_fraction=0.3",
    )
    rates = [row["train/lr"] for row in rows(folder) if "train/lr" in row]
    if name == "reduce_lr_on_plateau":
        assert rates[0] == pytest.approx(1e-3)
        return
    from fulgurite.config.stored import rebuild_run
    from fulgurite.run.folder import read_config
    from fulgurite.scheduler.curves import build

    curve = build(rebuild_run(read_config(folder)).scheduler, total=6, lr=1e-3)
    assert rates == pytest.approx([1e-3 * curve(step) for step in range(6)])


def test_a_model_that_does_not_load_leaves_the_config_of_its_run(tmp_path: Path) -> None:
    model = tmp_path / "model"
    made = build(compose(["model=tiny"]).run.model, torch.float32)
    made.model.save_pretrained(model)
    made.tokenizer.save_pretrained(model)
    with (model / "model.safetensors").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(ModelError):
        tiny(tmp_path / "run", "model=hf", f"model.path={model}")
    assert read_config(tmp_path / "run")["model"]["path"] == str(model)
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "failed"


def test_a_plateau_cuts_the_rate_by_evaluations(tmp_path: Path) -> None:
    # A rate of 1e-6 moves next to nothing, so no evaluation is better than the first: with patience 1 every second
    # one cuts.
    words = [
        "scheduler=reduce_lr_on_plateau", "scheduler.patience=1", "scheduler.factor=0.5", "optim=sgd", "optim.lr=1e-6",
    ]
    folder = tiny(tmp_path, *words, "trainer.max_steps=10", "trainer.eval_every=2", "trainer.log_every=1")
    rates = [row["train/lr"] / 1e-6 for row in rows(folder) if "train/lr" in row]
    assert rates == pytest.approx([1, 1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5])


def test_a_plateau_without_validation_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="follows the validation loss"):
        tiny(tmp_path / "run", "scheduler=reduce_lr_on_plateau", "data.val_fraction=0")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("precision", ["auto", "fp32", "bf16", "pure_bf16"])
def test_every_precision_trains(tmp_path: Path, precision: str) -> None:
    found = losses(
        tiny(
            tmp_path,
            f"precision={precision}",
            "method=full",
            "optim.lr=1e-2",
            "trainer.max_steps=8",
            "scheduler=constant",
        )
    )
    assert found[-1] < found[0]


def test_the_run_folder_holds_what_it_says(tmp_path: Path) -> None:
    tiny(tmp_path, "trainer.max_steps=4", "trainer.eval_every=2", "optim.lr=1e-3")
    found = rows(tmp_path)
    first = next(row for row in found if "train/loss" in row)
    assert set(first) == {
        "step", "epoch", "tokens", "train/loss", "train/lr", "train/grad_norm", "train/clipped", "train/update_ratio",
    }
    assert [row["step"] for row in found if "val/loss" in row] == [2, 4]
    assert [row["step"] for row in found if "train/loss" in row] == [1, 2, 3, 4]
    origin = json.loads((tmp_path / "provenance.json").read_text())["knobs"]
    assert origin["optim.lr"] == {"value": 0.001, "origin": "command line", "reason": ""}
    assert origin["data.max_length"]["origin"] == "derived"
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "finished"
    report = json.loads((tmp_path / "data_report.json").read_text())
    assert report["rows_in"] == report["trained"] + report["validation"] + report["not_drawn"] + sum(
        report["dropped_by_reason"].values()
    )
    assert os.readlink(tmp_path / "checkpoints" / "last") == "step-4"


def test_the_first_loss_is_that_of_a_model_that_knows_nothing(tmp_path: Path) -> None:
    assert losses(tiny(tmp_path))[0] == pytest.approx(math.log(512), abs=0.15)


def test_micro_batches_change_nothing(tmp_path: Path) -> None:
    same = ["trainer.max_steps=3", "trainer.global_batch_size=8", "optim.lr=1e-3"]
    whole, *others = [tiny(tmp_path / str(m), f"trainer.micro_batch_size={m}", *same) for m in (8, 3, 1)]
    for other in others:
        assert losses(other) == pytest.approx(losses(whole), rel=1e-5)
        for name, tensor in weights(whole).items():
            torch.testing.assert_close(weights(other)[name], tensor, rtol=1e-3, atol=2e-5)


# 9 examples a step: the processes get 5 and 4, with different numbers of labels.
NINE = ["trainer.global_batch_size=9", "trainer.max_steps=8", "data.max_samples=45", "trainer.eval_every=4",
    "data.val_fraction=0.1"]
SHARED = {
    "full": ["method=full", *NINE], "pt": ["stage=pt", "method=full", *NINE],
    # more in tests/strategy/test_processes.py
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["full", pytest.param("pt", marks=pytest.mark.matrix)])
def test_two_processes_are_one(tmp_path: Path, name: str) -> None:
    words = ["trainer.micro_batch_size=2", "optim.lr=1e-3", "optim=sgd", "trainer.save_every=4", *SHARED[name]]
    if name == "pt":
        (tmp_path / "t.jsonl").write_text(
            "".join(json.dumps({"text": f"{n} " * (n % 13 + 2)}) + "\n" for n in range(50))
        )
        words += ["data=file", f"data.path={tmp_path / 't.jsonl'}", "data.packing=none"]
    one = tiny(tmp_path / "one", *words)
    two = tmp_path / "two"
    train_in_two_processes([
        "model=tiny", "precision=fp32", "stage.prompts=[]", f"run_dir={two}", "strategy=ddp", "trainer.devices=2",
        "plan.allow=[steps.too-few]", *words,
    ])
    assert losses(two) == pytest.approx(losses(one), rel=1e-6)
    evaluated = [[r["val/loss"] for r in rows(folder) if "val/loss" in r] for folder in (one, two)]
    assert len(evaluated[0]) == 2
    assert evaluated[1] == pytest.approx(evaluated[0], rel=1e-6)
    for key, tensor in weights(one).items():
        torch.testing.assert_close(weights(two)[key], tensor, rtol=1e-6, atol=1e-7)


def test_accelerator_cpu_trains_as_auto_does_without_a_gpu(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("auto takes the GPU here")
    auto, cpu = (
        tiny(tmp_path / "auto", "optim.lr=1e-2"),
        tiny(tmp_path / "cpu", "optim.lr=1e-2", "trainer.accelerator=cpu"),
    )
    assert losses(cpu) == losses(auto)
    assert len(losses(cpu)) == 2


def test_a_failing_request_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"messages": 3}\n')
    with pytest.raises(DataError, match=r"bad\.jsonl:1: field 'messages': expected a list, found a number"):
        tiny(tmp_path / "run", "data=file", f"data.path={tmp_path / 'bad.jsonl'}")
    assert not (tmp_path / "run").exists()


def test_the_same_command_again_is_refused_as_finished(tmp_path: Path) -> None:
    tiny(tmp_path)
    with pytest.raises(CheckpointError, match="finished at step 2"):
        tiny(tmp_path)


def test_another_config_in_the_same_folder_is_refused_with_the_difference(tmp_path: Path) -> None:
    tiny(tmp_path)
    with pytest.raises(CheckpointError, match=r"method\.rank 16 → 8"):
        tiny(tmp_path, "method.rank=8", "method.alpha=32", "trainer.max_steps=4")


def test_real_alpaca_trains(tmp_path: Path, real_data: object) -> None:
    path = real_data("alpaca_en_demo.json")  # type: ignore[operator]
    folder = tiny(tmp_path, "data=file", f"data.path={path}", "data.max_samples=100")
    assert json.loads((folder / "data_report.json").read_text())["format"] == "alpaca"


def test_real_running_text_trains(tmp_path: Path, real_data: object) -> None:
    path = real_data("c4_demo.jsonl")  # type: ignore[operator]
    assert len(losses(tiny(tmp_path, "stage=pt", "data=file", f"data.path={path}", "trainer.global_batch_size=1"))) == 2
