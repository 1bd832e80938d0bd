"""Early stopping: a run ends when val/loss has not fallen for so many evaluations, and resumed it ends at the same
step."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.end_to_end.runs import rows, tiny
from tests.forked import train_in_two_processes

from fulgurite.config.compose import compose
from fulgurite.errors import CheckpointError, ConfigError
from fulgurite.plan.preflight import build_checked_source

BY_HEART = [
    "method=full", "optim.lr=1e-2", "data.max_samples=4", "trainer.max_steps=30", "trainer.eval_every=2",
    "scheduler=constant", "data.val_fraction=0.5",
]
"""A few rows learned by heart: the validation loss falls, then rises."""
GRPO = [
    "stage=grpo", "stage.reward=['count:e']", "stage.max_new_tokens=8", "method=full", "optim.lr=3e-3",
    "trainer.global_batch_size=4", "stage.num_generations=2", "data.max_samples=30",
    "trainer.max_steps=20", "trainer.eval_every=1", "data.val_fraction=0.3",
]


def evaluations(folder: Path) -> list[tuple[int, float]]:
    return [(row["step"], row["val/loss"]) for row in rows(folder) if "val/loss" in row]


def ends(found: list[tuple[int, float]], patience: int) -> tuple[int, int] | None:
    """The step at which a run with such evaluations ends, and that of the best: the definition, written out."""
    best, best_step, waited = float("inf"), 0, 0
    for step, value in found:
        if value < best:
            best, best_step, waited = value, step, 0
        else:
            waited += 1
        if waited == patience:
            return step, best_step
    return None


def state(folder: Path) -> dict[str, Any]:
    """The newest checkpoint byte by byte, the rows, and what the watch said."""
    last = folder / "checkpoints" / "last"
    watch = folder / "watch.jsonl"
    kept = {file.name: file.read_bytes() for file in sorted(last.iterdir())}
    return kept | {
        "step": last.resolve().name,
        "rows": rows(folder),
        "watch": watch.read_text() if watch.exists() else "",
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody stops."""
    return tiny(tmp_path_factory.mktemp("whole") / "run", *BY_HEART)


@pytest.mark.parametrize("patience", [1, 3])
def test_a_run_ends_after_so_many_evaluations_without_a_gain(
    tmp_path: Path, whole: Path, patience: int, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = ends(evaluations(whole), patience)
    assert expected is not None
    step, best = expected
    assert best < step < 30
    folder = tiny(tmp_path / "run", *BY_HEART, f"trainer.early_stopping_patience={patience}")
    assert rows(folder) == [row for row in rows(whole) if row["step"] <= step]
    assert (folder / "checkpoints" / "last").resolve().name == f"step-{step}"
    assert (folder / "checkpoints" / "best").resolve().name == f"step-{best}"
    assert json.loads((folder / "status.json").read_text())["state"] == "finished"
    value = dict(evaluations(whole))[best]
    assert (
        f"Stopped early at step {step} of 30: val/loss has not fallen below its {value:.4g} of step {best} in "
        f"{patience} evaluations. The best checkpoint is {folder}/checkpoints/best.\n"
    ) in capsys.readouterr().err


def test_a_run_goes_on_to_its_end_while_the_loss_falls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["optim.lr=1e-4", "trainer.max_steps=6", "trainer.eval_every=1", "scheduler=constant",
        "trainer.early_stopping_patience=1"]
    folder = tiny(tmp_path, *words)
    assert ends(evaluations(folder), 1) is None
    assert len(evaluations(folder)) == 6
    assert "Stopped early" not in capsys.readouterr().err


def test_a_falling_reward_ends_a_run_of_grpo_early(tmp_path: Path) -> None:
    """The reward of grpo: val/loss is its negative."""
    rewards = [(row["step"], row["val/reward"]) for row in rows(tiny(tmp_path / "whole", *GRPO)) if "val/reward" in row]
    expected = ends([(step, -reward) for step, reward in rewards], 2)
    assert expected is not None
    step, best = expected
    assert step < 20
    folder = tiny(tmp_path / "run", *GRPO, "trainer.early_stopping_patience=2")
    assert [(row["step"], row["val/reward"]) for row in rows(folder) if "val/reward" in row] == [
        r for r in rewards if r[0] <= step
    ]
    assert dict(rewards)[best] == max(reward for at, reward in rewards if at <= step)
    assert (folder / "checkpoints" / "best").resolve().name == f"step-{best}"


def cut(whole: Path, again: Path, killed: int) -> None:
    """The run's folder as a kill after step `killed` leaves it."""
    shutil.rmtree(again, ignore_errors=True)
    shutil.copytree(whole, again, symlinks=True)
    for path in (again / "checkpoints").glob("step-*"):
        if int(path.name.partition("-")[2]) > killed:
            shutil.rmtree(path)
    for link in ("last", "best"):
        (again / "checkpoints" / link).unlink()


def test_killed_and_resumed_a_run_ends_early_at_the_same_step_bit_for_bit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*BY_HEART, "trainer.early_stopping_patience=3", "trainer.save_every=1", "trainer.keep_checkpoints=99"]
    run, again = tiny(tmp_path / "run", *words), tmp_path / "again"
    expected, told = state(run), capsys.readouterr().err.split("Stopped early")[1].partition(" The best")[0]
    step, best = ends(evaluations(run), 3) or (0, 0)
    for killed in (best - 1, best, best + 1, step - 1):  # before the best, at it, while it waits, just before the end
        cut(run, again, killed)
        capsys.readouterr()
        assert state(tiny(again, *words)) == expected, f"killed after step {killed}"
        assert told in capsys.readouterr().err


def test_a_run_that_stopped_early_goes_on_only_with_more_patience(tmp_path: Path, whole: Path) -> None:
    step = (ends(evaluations(whole), 1) or (0, 0))[0]
    folder = tiny(tmp_path / "run", *BY_HEART, "trainer.early_stopping_patience=1")
    before = state(folder), (folder / "status.json").read_text()
    with pytest.raises(CheckpointError, match=(
        rf"run stopped early at step {step}: val/loss had not fallen for 1 evaluations, with "
        rf"trainer\.early_stopping_patience=1\. Raise it and add "
        r"resume\.allow=\[trainer\.early_stopping_patience\]"
    )):
        tiny(folder, *BY_HEART, "trainer.early_stopping_patience=1")
    assert (state(folder), (folder / "status.json").read_text()) == before
    further = (ends(evaluations(whole), 3) or (0, 0))[0]
    tiny(folder, *BY_HEART, "trainer.early_stopping_patience=3", "resume.allow=[trainer.early_stopping_patience]")
    assert rows(folder) == [row for row in rows(whole) if row["step"] <= further]


def test_patience_without_evaluations_is_refused_in_one_sentence(tmp_path: Path) -> None:
    words = ["model=tiny", "trainer.early_stopping_patience=3", "data.val_fraction=0"]
    with pytest.raises(ConfigError, match=r"^trainer\.early_stopping_patience=3 counts evaluations, but "
        r"data\.val_fraction=0 and .* leave [a-z._]+ out\.$"):
        build_checked_source(compose(words))
    with pytest.raises(ConfigError, match=r"^privacy=dp_sgd adds no noise to the validation loss, which "
        r"trainer\.early_stopping_patience follows; "):
        build_checked_source(compose(["model=tiny", "trainer.early_stopping_patience=3", "privacy=dp_sgd"]))
    with pytest.raises(ConfigError, match=r"trainer\.early_stopping_patience=0 is not allowed"):
        compose(["trainer.early_stopping_patience=0"])
    one = tmp_path / "one.jsonl"
    one.write_text(
        json.dumps({"messages": [{"role": "user", "content": "a?"}, {"role": "assistant", "content": "b"}]}) + "\n"
    )
    with pytest.raises(ConfigError,
        match=r"trainer\.early_stopping_patience=3 counts evaluations"):  # of one example none is held out
        tiny(tmp_path / "run", "data=file", f"data.path={one}", "data.max_samples=null",
            "trainer.early_stopping_patience=3", "trainer.global_batch_size=1")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_two_processes_end_together(tmp_path: Path) -> None:
    given = [
        "model=tiny", "precision=fp32", "stage.prompts=[]", "trainer.devices=2", "trainer.global_batch_size=4",
        *BY_HEART,
    ]
    given = [w for w in given if w != "data.max_samples=4"]
    given += ["trainer.early_stopping_patience=2", "data.max_samples=8", f"run_dir={tmp_path}"]
    written = train_in_two_processes(given)
    step, best = ends(evaluations(tmp_path), 2) or (0, 0)
    assert 0 < best < step < 30
    assert (tmp_path / "checkpoints" / "last").resolve().name == f"step-{step}"
    assert written.count(f"Stopped early at step {step} of 30: ") == 1
