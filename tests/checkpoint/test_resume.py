"""Which checkpoint a run goes on from, and when it may."""

import os
from pathlib import Path

import pytest
import torch

from fulgurite.checkpoint import folder, io, resume
from fulgurite.errors import CheckpointError, ConfigError

CONFIG = {
    "stage": {"option": "sft", "loss": "nll"},
    "optim": {"option": "adamw", "lr": 1e-4, "betas": [0.9, 0.999]},
    "trainer": {"option": "cpu", "epochs": 2.0, "max_steps": None, "keep_checkpoints": 2, "save_every": 10,
        "log_every": 1},
    "data": {"option": "file", "path": ["a.jsonl"], "columns": {}},
    "logger": {"wandb": {"project": "p"}},
    "resume": {"run": None, "allow": []},
    "seed": 42, "name": "x", "run_dir": "runs/a", "plugins": [],
}


def altered(**changes):
    new = {key: dict(value) if isinstance(value, dict) else value for key, value in CONFIG.items()}
    for path, value in changes.items():
        *parents, last = path.split("__")
        node = new
        for parent in parents:
            node = node[parent]
        node[last] = value
    return new


def save(run: Path, step: int) -> Path:
    path = run / "checkpoints" / f"step-{step}"
    io.FolderCheckpointIO().save_checkpoint({"state_dict": {"w": torch.ones(3)}, "step": step}, path)
    return path


def test_a_run_without_checkpoints_begins(tmp_path):
    assert resume.find(tmp_path) is None
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-1.tmp-5").mkdir()
    assert resume.find(tmp_path) is None


def test_the_newest_whole_one_is_taken_and_each_skipped_one_is_told_once(tmp_path):
    taken, cut, empty = save(tmp_path, 9), save(tmp_path, 10), save(tmp_path, 100)
    (cut / "weights.safetensors").write_bytes(b"")
    (empty / "manifest.json").write_bytes(b"")
    said = []
    assert resume.find(tmp_path, said.append) == taken
    assert len(said) == 2
    assert "step-100: manifest.json is not JSON" in str(said[0])
    assert "step-10: weights.safetensors has 0 bytes instead of" in str(said[1])


def test_links_that_a_kill_left_behind_are_renewed(tmp_path):
    for step in (1, 2):
        path = tmp_path / "checkpoints" / f"step-{step}"
        tree = {"state_dict": {"w": torch.ones(3)}, "position": {"best_step": step}}
        io.FolderCheckpointIO().save_checkpoint(tree, path)
        if step == 1:
            folder.update_links(path.parent, 1, 1)
    assert resume.find(tmp_path) == tmp_path / "checkpoints" / "step-2"
    assert [os.readlink(tmp_path / "checkpoints" / name) for name in ("last", "best")] == ["step-2", "step-2"]


def test_without_a_whole_one_a_run_never_begins_afresh(tmp_path):
    (save(tmp_path, 1) / "state.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no whole checkpoint \(step-1: state.json is missing\)") as caught:
        resume.find(tmp_path, lambda text: None)
    assert caught.value.exit_status == 2


def test_the_same_config_has_no_differences():
    assert resume.differences(CONFIG, altered(), []) == []


@pytest.mark.parametrize("change", [
    {"run_dir": "runs/b"}, {"name": "y"}, {"resume": {"run": "r", "allow": []}}, {"logger": {}}, {"plugins": ["p"]},
    {"logger": {"csv": {"option": "csv"}}}, {"trainer__keep_checkpoints": 9}, {"trainer__save_every": 1},
    {"trainer__log_every": 5},
])
def test_what_does_not_change_the_mathematics_may_differ(change):
    assert resume.differences(CONFIG, altered(**change), []) == []


@pytest.mark.parametrize(("change", "words"), [
    ({"optim__lr": 2e-4}, "optim.lr 0.0001 → 0.0002"),
    ({"optim__betas": [0.9, 0.95]}, "optim.betas [0.9, 0.999] → [0.9, 0.95]"),
    ({"seed": 1}, "seed 42 → 1"),
    ({"trainer__epochs": 3.0}, "trainer.epochs 2.0 → 3.0"),
    ({"trainer__max_steps": 5}, "trainer.max_steps null → 5"),
    ({"data__path": ["b.jsonl"]}, 'data.path ["a.jsonl"] → ["b.jsonl"]'),
    ({"data__columns": {"a": "x"}}, 'data.columns {} → (absent); data.columns.a (absent) → "x"'),
    ({"optim": {"option": "sgd", "lr": 1e-4, "momentum": 0.9}}, 'optim "adamw" → "sgd"'),
    ({"method": {"option": "lora"}}, 'method (absent) → "lora"'),
])
def test_every_other_difference_is_refused_with_both_values_and_the_remedy(change, words):
    new = altered(**change)
    assert "; ".join(resume.differences(CONFIG, new, [])) == words
    with pytest.raises(CheckpointError) as caught:
        resume.check_same(CONFIG, new, [], Path("runs/a"))
    knob = words.split(" ")[0]
    assert str(caught.value).startswith(f"This run differs from runs/a: {words}. Add resume.allow=[{knob}")
    assert "\n" not in str(caught.value)
    allowed = resume.check_same(CONFIG, new, [knob], Path("runs/a"))
    assert "; ".join(map(str, allowed)) == words


def test_the_remedy_keeps_what_was_allowed_already():
    new = altered(seed=1, optim__lr=1.0)
    with pytest.raises(CheckpointError, match=r"seed 42 → 1\. Add resume.allow=\[optim.lr,seed\]"):
        resume.check_same(CONFIG, new, ["optim.lr"], Path("r"))
    assert [c.knob for c in resume.check_same(CONFIG, new, ["optim", "seed"], Path("r"))] == ["optim.lr", "seed"]


def test_an_allowance_that_names_nothing_is_an_error():
    with pytest.raises(ConfigError, match=r"resume.allow=optim.lrr names no parameter.*Did you mean optim.lr"):
        resume.differences(CONFIG, altered(), ["optim.lrr"])


def test_resume_allow_accepts_names_beside_the_config():
    assert resume.differences(CONFIG, altered(), ["version"]) == []


def test_a_finished_run_is_refused_with_what_to_do():
    resume.check_unfinished(Path("runs/a"), 9, 10)
    for step in (10, 11):
        with pytest.raises(CheckpointError, match=rf"runs/a finished at step {step} of 10: .*resume.allow"):
            resume.check_unfinished(Path("runs/a"), step, 10)


def test_what_follows_from_an_allowed_change_is_allowed() -> None:
    """Longer training moves the evaluations, which nobody has set: it is enough to name the cause."""
    new = altered(optim__lr=0.5, seed=9)
    assert len(resume.differences(CONFIG, new, [])) == 2
    assert resume.differences(CONFIG, new, ["optim.lr"], {"seed"}) == []
    assert len(resume.differences(CONFIG, new, [], {"seed"})) == 2
