"""launcher=ray: how it starts Ray, and its one line and status. Ray is a fake but in the last tests, which need it."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.cli.requests import TINY, read_refusal
from tests.end_to_end.runs import losses, tiny
from tests.launcher.fake_ray import FakeRay
from tests.launcher.test_slurm import SGD

from fulgurite.cli.main import main
from fulgurite.errors import ConfigError
from fulgurite.launcher import ray_train
from fulgurite.launcher.config import RayLauncher
from fulgurite.launcher.ray_train import judge_ends, launch
from fulgurite.launcher.request import LaunchRequest
from fulgurite.train.rank_process import RankReport

LOST = RankReport(3, "lost the other", True)
BAD = RankReport(2, "bad data")
FAILED = RankReport(3, "Step 4: not finite.")
STOPPED = RankReport(143, "Stopped by SIGTERM after step 3.")
WELL = RankReport(0, "")


@pytest.mark.parametrize(("ends", "signals", "expected"), [
    ([WELL, WELL], [], (0, "")), ([LOST, BAD], [], (2, "bad data")), ([BAD, FAILED], [], (3, "Step 4: not finite.")),
    ([STOPPED, STOPPED], [signal.SIGTERM], (143, "Stopped by SIGTERM after step 3.")),
    ([STOPPED, STOPPED], [signal.SIGINT], (130, "Stopped by SIGTERM after step 3.")),
    ([LOST, LOST], [], (3, "lost the other")), ([LOST], [signal.SIGINT], (130, "lost the other")),
    ([], [signal.SIGINT], (130, "Stopped by SIGINT before training began.")),
])
def test_one_line_and_one_status(ends: list[RankReport], signals: list[int], expected: tuple[int, str]) -> None:
    status, line = judge_ends(ends, signals, None)
    assert (status, str(line)) == expected


def test_what_ray_gives_up_is_a_failure() -> None:
    assert judge_ends([], [], RuntimeError("no\nnode"))[0] == 3
    assert str(judge_ends([], [], RuntimeError("no\nnode"))[1]) == "Ray Train ended the run: no node"


def run_fake(
    folder: Path, monkeypatch: pytest.MonkeyPatch, code: str = "pass", gpus: int = 0, needs_gpu: bool = False,
    **given: Any,
) -> tuple[int, FakeRay]:
    """The status of a run of two ranks that execute `code`."""
    ray = FakeRay(gpus)
    ray.install(monkeypatch)
    for name in ray_train.QUIET | ray_train.ALONE:  # set by `launch`, and taken back at the end of the test
        monkeypatch.setenv(name, os.environ.get(name, ""))
        monkeypatch.delenv(name)
    monkeypatch.setattr("fulgurite.launcher.ray_worker.build_command", lambda words: [sys.executable, "-c", code])
    request = LaunchRequest(("train",), 2, 1, "one", str(folder), None, uses_gpu=True, needs_gpu=needs_gpu)
    return launch(RayLauncher(**given), request), ray


@pytest.mark.parametrize(("gpus", "address", "sentence"), [
    (0, None, "trainer.accelerator=cuda needs a GPU, and Ray finds none; use trainer.accelerator=auto, or"),
    (1, None, "needs a GPU for each of 2 processes, and Ray finds 1 on this machine; use trainer.devices=1, or"),
    (0, "auto", "trainer.accelerator=cuda needs a GPU, and Ray finds none"), (2, None, ""), (1, "auto", ""),
])
def test_a_run_that_needs_gpus_is_refused_before_its_processes_start(
    gpus: int, address: str | None, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine of a cluster may come later, those of this machine do not."""
    given: Any = {"gpus": gpus, "needs_gpu": True, "address": address}
    if not sentence:
        assert run_fake(tmp_path / "a", monkeypatch, **given)[1].scaling.use_gpu is True
        return
    with pytest.raises(ConfigError, match=sentence):
        run_fake(tmp_path / "a", monkeypatch, **given)
    assert not (tmp_path / "a").exists()


def test_ray_starts_without_dashboard_on_this_machine_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status, ray = run_fake(tmp_path / "a", monkeypatch)
    assert (status, ray.is_down) == (0, True)
    [given] = ray.inits
    assert (given["address"], given["include_dashboard"], given["log_to_driver"]) == ("local", False, False)
    assert os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert (ray.scaling.num_workers, ray.scaling.use_gpu) == (2, False)
    assert (ray.run_config.storage_path, ray.run_config.failure_config.max_failures) == (str(tmp_path / "a"), 2)

    status, ray = run_fake(tmp_path / "b", monkeypatch, gpus=8, address="auto", max_failures=0)
    assert ray.inits[0]["address"] == "auto"
    assert "include_dashboard" not in ray.inits[0]
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in os.environ
    assert (ray.scaling.use_gpu, ray.run_config.failure_config.max_failures) == (True, 0)


def test_the_first_ranks_lines_and_the_error_reach_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "import os, sys; print('line of', os.environ['RANK']); sys.exit(int(os.environ['RANK']) * 7)"
    status, _ = run_fake(tmp_path, monkeypatch, code, max_failures=0)
    assert status == 3
    assert capsys.readouterr().err == (
        "line of 0\nerror: Ray Train ended the run: Rank 1 of 2 left with exit status 7 and gave no reason. "
        "No checkpoint was made yet, so the run begins again.\n"
    )


def test_without_ray_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in ray_train.QUIET | ray_train.ALONE:
        monkeypatch.setenv(name, "")
    line = read_refusal(["train", *TINY, "plan.allow=[steps.too-few]", "launcher=ray"], capsys)
    assert "launcher=ray needs the package ray" in line
    assert list(tmp_path.iterdir()) == []


needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed (the extra `ray`)")
LOSE = """
import os, signal
from fulgurite.callback.signals import SignalHandler
inner = SignalHandler.on_train_batch_start
def lose(self, trainer, *rest):
    mark = os.path.join(os.environ["PLACE"], "lost")
    if trainer.global_step == 3 and os.environ["RANK"] == "1" and not os.path.exists(mark):
        open(mark, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    inner(self, trainer, *rest)
SignalHandler.on_train_batch_start = lose
"""


@needs_ray
@pytest.mark.slow
def test_two_ranks_of_ray_are_one_process_also_if_one_is_lost(tmp_path: Path) -> None:
    """With the real Ray: the second rank is killed before step 4, and the run goes on from the checkpoint of step 2."""
    words = [f"{name}={value}" for name, value in (SGD | {"trainer.save_every": "2"}).items()]
    one = tiny(tmp_path / "one", *words)
    (tmp_path / "lose.py").write_text(LOSE)
    folder = tmp_path / "ray-run"
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    done = subprocess.run(
        [sys.executable, "-m", "fulgurite", "train", "model=tiny", *words, "launcher=ray", "trainer.devices=2",
         "plugins=[lose]", f"run_dir={folder}"],
        env=os.environ | {"PYTHONPATH": path, "PLACE": str(tmp_path)}, cwd=tmp_path, capture_output=True, text=True,
        timeout=600, check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "lost").exists()
    assert losses(folder) == pytest.approx(losses(one), rel=1e-6)
    assert len(losses(folder)) == 4
    assert "error" not in done.stderr


def test_help_of_the_command_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "launcher"]) == 0
    assert "ray" in capsys.readouterr().out
