"""Whole runs: stopped and resumed they end the same; what is evaluated and saved, and what rests."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from safetensors.torch import load_file
from tests.end_to_end.runs import losses, rows, tiny, weights
from tests.end_to_end.test_train import FULL_ONLY, RATES, SMALL

import fulgurite as fg
from fulgurite.callback.signals import SignalHandler
from fulgurite.config.compose import compose
from fulgurite.errors import Interrupted

BASE = {
    "model": "tiny", "data.max_samples": "40", "trainer.max_steps": "9", "trainer.global_batch_size": "4", "trainer.micro_batch_size": "2",
    "precision": "fp32", "scheduler": "constant_with_warmup", "scheduler.warmup_steps": "2", "trainer.eval_every": "3",
    "trainer.save_every": "2", "stage.max_new_tokens": "3", "data.val_fraction": "0.2", "logger": "none",
}


class StopAfter(Callback):  # type: ignore[misc]
    """Asks the run to stop once a step is done, as a signal would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            import signal

            [stop] = [c for c in trainer.callbacks if isinstance(c, SignalHandler)]
            stop.asked = signal.SIGTERM


def go(folder: Path, *words: str, stop: int | None = None, look: Callback | None = None) -> Path:
    said = {w.partition("=")[0]: w.partition("=")[2] for w in words}
    own = [*([look] if look is not None else []), *([StopAfter(stop)] if stop is not None else [])]
    experiment = fg.experiment(*(f"{k}={v}" for k, v in (BASE | said | {"run_dir": str(folder)}).items()), callbacks=own)
    with pytest.raises(Interrupted) if stop is not None else contextlib.nullcontext():
        experiment.fit()
    return folder


def left(folder: Path) -> dict[str, Any]:
    last = folder / "checkpoints" / "last"
    files = {p.name: load_file(p) for p in sorted(last.glob("*.safetensors"))}
    return {**files, "state": json.loads((last / "state.json").read_text())["optimizer"]}


CASES = [(o, m) for o in RATES for m in ("full", "lora") if m == "full" or o in ("schedule_free", "adamw_8bit")]


@pytest.mark.parametrize(("optim", "method"), CASES)
def test_stopped_and_resumed_it_ends_bit_for_bit(tmp_path: Path, optim: str, method: str) -> None:
    words = [f"optim={optim}", f"method={method}", f"optim.lr={RATES[optim]}", *SMALL.get(optim, [])]
    words += ["optim.switch_every=2"] if optim == "badam" else []
    # step 3 is one after which an evaluation is due: the run is stopped before it, and begins with it
    whole, parts = go(tmp_path / "whole", *words), tmp_path / "parts"
    for stop in (3, 4):
        go(parts, *words, stop=stop)
    go(parts, *words)
    assert rows(parts) == rows(whole)
    assert (parts / "samples.jsonl").read_text() == (whole / "samples.jsonl").read_text()
    a, b = left(whole), left(parts)
    assert a["state"] == b["state"]
    for file in ("weights.safetensors", "optimizer.safetensors"):
        assert a[file].keys() == b[file].keys()
        assert a[file]
        assert all(torch.equal(a[file][name], b[file][name]) for name in a[file])


def test_evaluations_do_not_change_schedule_frees_training_by_a_bit(tmp_path: Path) -> None:
    words = ["optim=schedule_free", "method=full", "optim.lr=2e-2"]
    often = go(tmp_path / "often", *words, "trainer.eval_every=1")
    never = go(tmp_path / "never", *words, "data.val_fraction=0.2", "trainer.eval_every=9")
    assert losses(often) == losses(never)
    assert all(torch.equal(t, weights(never)[name]) for name, t in weights(often).items())


def test_schedule_free_saves_and_evaluates_the_average(tmp_path: Path) -> None:
    folder = go(tmp_path, "optim=schedule_free", "method=full", "optim.lr=2e-2")
    last = folder / "checkpoints" / "last"
    x, state = load_file(last / "weights.safetensors"), load_file(last / "optimizer.safetensors")
    trained = {n: t for n, t in state.items() if n.endswith(".y")}
    assert len(trained) == len(x)
    moved = 0
    for name, y in trained.items():
        average = torch.lerp(y, state[name.removesuffix(".y") + ".z"], 1 - 1 / 0.9)
        match = [n for n, t in x.items() if t.shape == average.shape and torch.equal(t, average)]
        assert match, name
        moved += not torch.equal(average, y)
    assert moved == len(x)
    from fulgurite.export.model import load_run  # as export and chat read it

    live = dict(load_run(folder, "last").model.named_parameters())
    assert all(torch.equal(live[name.removeprefix("model.")], tensor) for name, tensor in x.items())


class Averaged(Callback):  # type: ignore[misc]
    """Sees whether the model holds the average wherever it is judged, and what is trained wherever it learns."""

    def __init__(self) -> None:
        self.judged: list[bool] = []
        self.trained: list[bool] = []

    def holds(self, trainer: Any) -> bool:
        return all(torch.equal(p, x) for p, x in trainer.optimizers[0].averages())

    def on_validation_batch_end(self, trainer: Any, *rest: Any) -> None:
        self.judged.append(self.holds(trainer))

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        with pl_module.inference_context():
            self.judged.append(self.holds(trainer))
        self.judged.append(self.holds(trainer))

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        with pl_module.inference_context():
            self.judged.append(self.holds(trainer))

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.trained.append(self.holds(trainer))


def test_schedule_free_is_judged_by_its_average_and_trains_the_other(tmp_path: Path) -> None:
    look = Averaged()
    go(tmp_path, "optim=schedule_free", "method=full", "optim.lr=2e-2", look=look)
    assert len(look.judged) > 9
    assert all(look.judged)
    # step 1 has a rate of 0 in this warmup, so step 2's weights are the first that count, and the average is they alone
    assert look.trained == [True] * 3 + [False] * 6


class Gradients(Callback):  # type: ignore[misc]
    """Notes which parameters have a gradient at each step, and whether all ask for one between the steps."""

    def __init__(self) -> None:
        self.seen: list[set[str]] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.seen.append({n for n, p in pl_module.named_parameters() if p.grad is not None})
        assert all(p.requires_grad for p in pl_module.parameters())


def test_badams_resting_blocks_get_no_gradient_and_the_norm_is_the_active_blocks(tmp_path: Path) -> None:
    look = Gradients()
    folder = go(tmp_path, "optim=badam", "method=full", "optim.lr=1e-2", "optim.switch_every=1", "trainer.max_steps=4", look=look)
    layers = [{n.split("layers.")[1][0] if "layers." in n else n for n in names} for names in look.seen]
    assert layers[0] == {"model.model.embed_tokens.weight"}
    assert layers[1] == {"0"}
    assert {"1", "model.model.norm.weight"} >= layers[2] > set()
    assert all(row["train/grad_norm"] > 0 for row in rows(folder) if "train/grad_norm" in row)


def test_freeze_schedules_are_asked_each_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fulgurite.stage import base

    look, asked = Gradients(), []
    before = base.StageModule.__init__

    def resting(self: Any, *given: Any) -> None:
        before(self, *given)

        def embeddings_in_the_first_step(step: int) -> list[Any]:
            asked.append(step)
            return [p for n, p in self.named_parameters() if step < 1 and "embed" in n]

        self.freeze_schedules.append(embeddings_in_the_first_step)

    monkeypatch.setattr(base.StageModule, "__init__", resting)
    go(tmp_path, "optim=sgd", "method=full", "optim.lr=1e-2", "trainer.max_steps=2", "trainer.micro_batch_size=4", look=look)
    assert asked == [0, 1]
    assert look.seen[1] - look.seen[0] == {"model.model.embed_tokens.weight"}


def test_muon_logs_its_own_rate_and_fills_the_other(tmp_path: Path) -> None:
    folder = tiny(tmp_path, "optim=muon", "optim.scale=own", "method=full", "scheduler=constant")
    assert [row["train/lr"] for row in rows(folder) if "train/lr" in row] == [0.02, 0.02]
    origin = json.loads((folder / "provenance.json").read_text())["knobs"]
    assert origin["optim.adam_lr"]["value"] == 1e-4
    assert "SmolLM2" in origin["optim.adam_lr"]["reason"]
    assert compose(["model=tiny", "optim=muon", "method=full", "optim.lr=3e-4"]).run.optim.adam_lr == 3e-4
    assert set(FULL_ONLY) < set(RATES)
