"""What a checkpoint holds, which are kept, what the links name, and what a run refuses to go on from."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from lightning.pytorch.loggers.logger import DummyLogger
from tests.checkpoint import toy_training
from tests.checkpoint.toy_training import PER_EPOCH, At, Model, digest, train

from fulgurite.checkpoint import folder, io, resume
from fulgurite.errors import CheckpointError, Interrupted, TrainingFailed
from fulgurite.files import atomic


def stopped() -> None:
    os.kill(os.getpid(), 15)


def steps(run: Path) -> list[int]:
    return folder.list_steps(run / "checkpoints")


def link(run: Path, name: str) -> str:
    return os.readlink(run / "checkpoints" / name)


def values(run: Path) -> dict[int, float]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row["val/loss"] for row in rows if "val/loss" in row}


# --- what it holds


# --- which are kept


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_newest_and_the_best_are_kept(tmp_path, keep):
    train(tmp_path, save_every=1, eval_every=1, keep=keep)
    best = min(values(tmp_path), key=values(tmp_path).get)
    assert best < 9 - keep, "the toy run is to over-fit, or this test says nothing about the best"
    assert steps(tmp_path) == sorted({best, *range(10 - keep, 10)})
    assert (link(tmp_path, "last"), link(tmp_path, "best")) == ("step-9", f"step-{best}")


def test_a_tracker_is_offered_each_checkpoint_and_at_the_end_the_last_and_the_best(tmp_path):
    class Tracker(DummyLogger):
        def __init__(self):
            super().__init__()
            self.seen = []

        def log_checkpoint(self, path, step, kind):
            assert (path / "manifest.json").is_file()
            self.seen.append((path.name, step, kind))

    tracker = Tracker()
    train(tmp_path, save_every=3, eval_every=3, tracker=tracker)
    best = min(values(tmp_path), key=values(tmp_path).get)
    saved = [(f"step-{n}", n, "all") for n in (3, 6, 9)]
    assert tracker.seen == [*saved, ("step-9", 9, "last"), (f"step-{best}", 9, "best")]


def test_a_new_best_is_saved_though_no_checkpoint_is_due(tmp_path):
    train(tmp_path, save_every=100, eval_every=1)
    best = min(values(tmp_path), key=values(tmp_path).get)
    assert steps(tmp_path) == [best, 9]


def test_without_evaluation_there_is_no_best(tmp_path):
    train(tmp_path, save_every=4, eval_every=100)
    assert steps(tmp_path) == [8, 9]
    assert not (tmp_path / "checkpoints" / "best").exists()


class Unsound(Model):
    """Its second evaluation of four, and every later one, is not a number."""

    def on_validation_epoch_end(self):
        value = torch.stack(self.sums).mean()
        self.log("val/loss", value if self.trainer.global_step < 4 else value * float("nan"))


def test_an_evaluation_that_is_no_number_is_never_the_best(tmp_path):
    kept = train(tmp_path, save_every=100, eval_every=2, model=Unsound())
    assert kept.best_step == 2
    assert (link(tmp_path, "last"), link(tmp_path, "best")) == ("step-9", "step-2")
    assert steps(tmp_path) == [2, 9]


class Unnamed(Model):
    def on_validation_epoch_end(self):
        self.log("val/other", torch.stack(self.sums).mean())


def test_an_evaluation_without_the_value_warns_that_there_is_no_best(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(toy_training.TokenDataset, "on_validation_end", lambda *_: None)
    train(tmp_path, epochs=1, model=Unnamed())
    assert "logged no val/loss, so there is no best checkpoint" in caplog.text
    assert not (tmp_path / "checkpoints" / "best").exists()


def test_the_best_so_far_is_known_after_a_resume_and_the_folder_may_move(tmp_path):
    whole, before, after = tmp_path / "whole", tmp_path / "before", tmp_path / "after"
    train(whole, save_every=1, eval_every=1, keep=1)
    with pytest.raises(Interrupted):
        train(before, At("on_train_batch_start", 7, stopped), save_every=1, eval_every=1, keep=1)
    before.rename(after)
    train(after, save_every=1, eval_every=1, keep=1)
    assert steps(after) == steps(whole)
    assert link(after, "best") == link(whole, "best")
    assert digest(after) == digest(whole)


def test_there_is_a_whole_checkpoint_at_every_instant(tmp_path, monkeypatch):
    """Looked at around every single thing that is done to the folder, over fifty saves that each delete the last."""
    looked, checkpoints = [], tmp_path / "checkpoints"

    def look():
        if steps(tmp_path):
            looked.append(folder.find_newest_whole(checkpoints)[0])
            assert looked[-1] is not None
        for name in ("last", "best"):
            if (checkpoints / name).is_symlink():
                assert folder.find_faults(checkpoints / name) == [], name

    def looking(module, name):
        real = getattr(module, name)

        def call(*words, **more):
            look()
            done = real(*words, **more)
            look()
            return done

        monkeypatch.setattr(module, name, call)

    looking(io, "_save")
    looking(shutil, "rmtree")
    for name in ("sync", "publish_folder", "replace_link"):
        looking(atomic, name)
    train(tmp_path, epochs=17, save_every=1, eval_every=7, keep=1)
    assert len(set(looked)) == 51
    assert sorted(p.name for p in checkpoints.iterdir()) == sorted({"last", "best", link(tmp_path, "best"), "step-51"})


# --- damage


def test_a_damaged_newest_is_skipped_and_made_anew(tmp_path, caplog):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(whole)
    train(cut, epochs=2)
    os.truncate(cut / "checkpoints" / "step-6" / "optimizer.safetensors", 100)
    train(cut)
    assert "step-6: optimizer.safetensors has 100 bytes instead of" in caplog.text
    assert digest(cut) == digest(whole)


def test_a_damaged_newer_one_never_counts_as_one_of_those_kept(tmp_path):
    train(tmp_path, epochs=1, save_every=1, eval_every=100, keep=2)
    (tmp_path / "checkpoints" / "step-3").rename(tmp_path / "checkpoints" / "step-30")
    (tmp_path / "checkpoints" / "step-30" / "manifest.json").unlink()
    train(tmp_path, epochs=2, save_every=1, eval_every=100, keep=1)
    assert steps(tmp_path) == [6, 30]
    assert link(tmp_path, "last") == "step-6"


def test_what_a_killed_run_left_is_cleared_away(tmp_path):
    train(tmp_path, epochs=1)
    shutil.copytree(tmp_path / "checkpoints" / "step-3", tmp_path / "checkpoints" / "step-4.tmp-77")
    train(tmp_path, epochs=2)
    assert list((tmp_path / "checkpoints").glob("*tmp*")) == []


# --- what is refused


def test_another_identity_is_refused_unless_it_is_allowed(tmp_path):
    train(tmp_path, epochs=1, identity={"data.sha256": "a", "version": "1"})
    with pytest.raises(CheckpointError, match=r'step-3: data.sha256 "a" → "b"\. Add resume.allow=\[data.sha256\]'):
        train(tmp_path, identity={"data.sha256": "b", "version": "1"})
    train(tmp_path, identity={"data.sha256": "b", "version": "1"}, allow=["data.sha256", "optim.lr"])
    assert link(tmp_path, "last") == "step-9"


def test_a_run_that_turned_non_finite_leaves_the_checkpoint_before(tmp_path):
    model = Model()

    def poison():
        model.out.weight.data[0, 0] = float("nan")

    with pytest.raises(TrainingFailed, match=r"step-4 was not written: 1 of 8 values of out.weight are not finite"):
        train(tmp_path, At("on_validation_end", 4, poison), model=model)
    assert steps(tmp_path) == [2]
    assert resume.find(tmp_path) == tmp_path / "checkpoints" / "step-2"


def test_a_disk_that_refuses_ends_the_run_in_one_line_and_it_goes_on_later(tmp_path, monkeypatch):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(whole)
    real = shutil.disk_usage

    def full(path):
        return real(path) if not (cut / "checkpoints" / "step-4").exists() else shutil._ntuple_diskusage(1, 1, 0)

    monkeypatch.setattr(shutil, "disk_usage", full)
    with pytest.raises(TrainingFailed, match="step-6 could not be written: not enough free disk space"):
        train(cut)
    monkeypatch.undo()
    train(cut)
    assert digest(cut) == digest(whole)


def test_a_checkpoint_stores_the_steps_per_epoch_of_the_loader(tmp_path):
    train(tmp_path, epochs=1)
    state = io.FolderCheckpointIO().load_checkpoint(tmp_path / "checkpoints" / "last")
    assert len(state["position"].pop("rng")) == 1
    best = {"best_step": 2, "best_value": values(tmp_path)[2]}
    assert state["position"] == {"step": 3, "per_epoch": PER_EPOCH, "evaluated": True, "identity": {}, **best}
    assert "loops" not in state
