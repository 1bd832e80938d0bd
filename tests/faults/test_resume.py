"""The real command, killed, interrupted and started again: it ends bit for bit like one that was left alone."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.forked import ForkedCommand

SHORT = (
    "model=tiny", "data.max_samples=60", "precision=fp32", "trainer.max_steps=9", "trainer.global_batch_size=6",
    "trainer.micro_batch_size=2",
    "trainer.eval_every=3", "trainer.save_every=2", "stage.max_new_tokens=4", "logger=none",
)
WORDS = (*SHORT, "data=guide", "method.dropout=0.2")
STAGES = {
    "dpo": (*SHORT, "stage=dpo", "data=guide_preference", "stage.loss=bco_pair"),
    "grpo": (*SHORT, "stage=grpo", "stage.reward=['count:e']", "stage.num_generations=4", "stage.minibatches=2",
        "stage.epochs_per_rollout=2"),
    "ppo": (*SHORT, "stage=ppo", "stage.reward=['count:e']", "stage.epochs_per_rollout=2", "stage.kl_control=adaptive"),
}
"""dpo with the loss that has a running state; grpo with four steps a rollout, and ppo with two: a save after 2 lies
inside or between."""
CLOCK = {"train/tokens_per_second"}
"""What depends on the time of day and on nothing else."""

pytestmark = pytest.mark.slow


def start(run: Path, *words: str) -> ForkedCommand:
    return ForkedCommand(["train", *(words or (*WORDS, f"run_dir={run}"))])


def in_this_process(*words: str) -> tuple[int, list[str]]:
    """The same command without a process of its own, for runs that nobody kills; its status and its error lines."""
    from fulgurite.cli.main import main

    heard = io.StringIO()
    with contextlib.redirect_stderr(heard), contextlib.redirect_stdout(io.StringIO()):
        status = main(["train", *words])
    return status, [line for line in heard.getvalue().splitlines() if line.startswith("error:")]


def finish(process: ForkedCommand) -> tuple[int, list[str]]:
    """The exit status, and the lines on stderr that tell of an error."""
    words = process.communicate(timeout=300)[1]
    assert "Traceback" not in words, words
    return process.returncode, [line for line in words.splitlines() if line.startswith("error:")]


def signalled(run: Path, step: int, number: int, *words: str) -> tuple[int, list[str]]:
    """Start or go on, and send the signal once the row of `step` is written."""
    process = start(run, *words)
    while process.poll() is None and steps(run) < step:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.02)
    process.send_signal(number)
    return finish(process)


def rows(run: Path) -> list[dict[str, Any]]:
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [{key: value for key, value in json.loads(line).items() if key not in CLOCK} for line in lines]


def steps(run: Path) -> int:
    return max((row["step"] for row in rows(run)), default=0)


def state(run: Path) -> dict[str, Any]:
    last = run / "checkpoints" / "last"
    files = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(last.iterdir())}
    return {"last": last.resolve().name, **files, "rows": rows(run), "samples": (run / "samples.jsonl").read_text()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    assert in_this_process(*WORDS, f"run_dir={run}") == (0, [])
    return run


def test_killed_interrupted_and_terminated_it_ends_the_same(tmp_path: Path, whole: Path) -> None:
    run = tmp_path / "run"
    assert signalled(run, 3, signal.SIGKILL)[0] == -signal.SIGKILL
    for step, number, expected in ((4, signal.SIGTERM, 143), (6, signal.SIGINT, 130)):
        status, errors = signalled(run, step, number)
        assert status == expected
        assert len(errors) == 1
        assert f"Stopped by {signal.Signals(number).name} after step " in errors[0]
        assert f"go on with resume.run={run}." in errors[0]
        assert json.loads((run / "status.json").read_text())["state"] == "stopped"
    assert finish(start(run, f"resume.run={run}")) == (0, [])
    assert state(run) == state(whole)
    assert list(run.rglob("*.tmp-*")) == []


@pytest.mark.parametrize("stage", [
    pytest.param(stage, marks=() if stage == "grpo" else pytest.mark.matrix) for stage in STAGES
])
def test_comparisons_and_rollouts_killed_end_the_same(stage: str, tmp_path: Path) -> None:
    """Killed after step 3 the run goes on from step 2: in the middle of grpo's first rollout, between two of ppo's."""
    whole, run = ((*STAGES[stage], f"run_dir={tmp_path / name}") for name in ("whole", "run"))
    assert in_this_process(*whole) == (0, [])
    assert signalled(tmp_path / "run", 3, signal.SIGKILL, *run)[0] == -signal.SIGKILL
    assert 3 <= steps(tmp_path / "run") < 9
    assert finish(start(tmp_path, *run)) == (0, [])
    assert state(tmp_path / "run") == state(tmp_path / "whole")
    assert list((tmp_path / "run").rglob("*.tmp-*")) == []


def test_what_may_not_be_resumed_is_refused_in_one_line(tmp_path: Path, whole: Path) -> None:
    status, errors = in_this_process(*WORDS, f"run_dir={whole}")
    assert status == 2
    assert len(errors) == 1
    assert "finished at step 9 of 9" in errors[0]
    status, errors = in_this_process(*WORDS, f"run_dir={whole}", "optim.lr=0.02", "trainer.max_steps=12")
    assert status == 2
    assert len(errors) == 1
    assert "trainer.max_steps 9 → 12" in errors[0]
    assert "Add resume.allow=[optim.lr," in errors[0]
    damaged = tmp_path / "damaged"
    shutil.copytree(whole, damaged, symlinks=True)
    for manifest in damaged.glob("checkpoints/step-*/manifest.json"):
        manifest.write_bytes(b"")
    status, errors = in_this_process(*WORDS, f"run_dir={damaged}")
    assert status == 2
    assert len(errors) == 1
    assert "has no whole checkpoint" in errors[0]
