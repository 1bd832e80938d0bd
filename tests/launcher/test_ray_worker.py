"""A worker of Ray Train: the environment of its rank, its signals, its end. Ray is a fake; the ranks are toys."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tests.launcher.fake_ray import FakeRay, Handle, TrainingFailedError
from tests.train.test_launcher import HEAD, appear

from fulgurite.files.lock import hold_lock
from fulgurite.launcher.ray_train import build_trainer, judge_ends
from fulgurite.launcher.ray_worker import RunReports, build_command, name_log, wait_for_release
from fulgurite.run.status import LOCK
from fulgurite.train import launcher
from fulgurite.train.rank_process import RankReport


def run_toys(
    code: str, folder: Path, monkeypatch: pytest.MonkeyPatch, max_failures: int = 0
) -> tuple[RunReports, FakeRay, threading.Thread, list[BaseException]]:
    """Starts two ranks that execute `code`; returns before they end."""
    monkeypatch.setenv("PLACE", str(folder))
    monkeypatch.setattr(launcher, "LOOK", 0.1)
    ray, reports, errors = FakeRay(), RunReports(), []
    ray.install(monkeypatch)
    given = {
        "words": [], "command": [sys.executable, "-c", HEAD + code], "folder": str(folder), "cwd": str(folder),
        "reports": Handle(reports), "is_loopback": True,
    }
    trainer = build_trainer(given, 2, False, max_failures)

    def fit() -> None:
        try:
            trainer.fit()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=fit)
    thread.start()
    return reports, ray, thread, errors


def find_ends(reports: RunReports) -> dict[int, tuple[int, str]]:
    return {rank: (end["status"], end["line"]) for rank, end in reports.ends.items()}


def test_a_rank_gets_its_place_and_prints_into_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_PROCID", "5")
    code = "import json; print(json.dumps(dict(os.environ)))"
    reports, ray, thread, errors = run_toys(code, tmp_path, monkeypatch)
    thread.join(60)
    assert (errors, find_ends(reports), ray.starts) == ([], {0: (0, ""), 1: (0, "")}, 1)
    seen: list[dict[str, Any]] = [json.loads(name_log(tmp_path, number).read_text()) for number in (0, 1)]
    assert [found["RANK"] + found["LOCAL_RANK"] + found["WORLD_SIZE"] for found in seen] == ["002", "112"]
    assert seen[0]["MASTER_ADDR"] == "127.0.0.1"
    assert seen[0]["MASTER_PORT"] == seen[1]["MASTER_PORT"]
    assert [found["FULGURITE_STARTED_BY"] for found in seen] == ["ray", "ray"]
    assert "SLURM_PROCID" not in seen[0]
    assert oct(name_log(tmp_path, 0).stat().st_mode)[-3:] == "600"


def test_a_lost_rank_starts_the_run_again_and_a_failed_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = """
first = not os.path.exists(os.path.join(os.environ["PLACE"], "there1"))
there("there")
if number and first: os.kill(os.getpid(), signal.SIGKILL)
if first: leave(3, "lost the other", lost=True)
"""
    reports, ray, thread, errors = run_toys(again, tmp_path, monkeypatch, max_failures=2)
    thread.join(60)
    assert (errors, find_ends(reports), ray.starts) == ([], {0: (0, ""), 1: (0, "")}, 2)

    reports, ray, thread, errors = run_toys(
        "leave(2, 'bad data') if number else leave(3, 'lost', lost=True)", tmp_path, monkeypatch, max_failures=2,
    )
    thread.join(60)
    assert (errors, ray.starts) == ([], 1)
    assert find_ends(reports)[1] == (2, "bad data")
    assert reports.ends[0]["lost"]


def test_a_run_that_is_lost_too_often_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "os.kill(os.getpid(), signal.SIGKILL)"
    _, ray, thread, errors = run_toys(code, tmp_path, monkeypatch, max_failures=1)
    thread.join(60)
    assert ray.starts == 2
    assert isinstance(errors[0], TrainingFailedError)
    assert "was killed by SIGKILL" in str(errors[0].worker_failures[0])


def test_a_signal_reaches_the_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "signal.signal(signal.SIGTERM, lambda *_: leave(143, 'Stopped after step 3.'))\nthere('up')\ntime.sleep(60)"
    reports, ray, thread, errors = run_toys(code, tmp_path, monkeypatch, max_failures=2)
    appear(tmp_path, "up0", "up1")
    reports.ask(15)
    thread.join(60)
    assert (errors, ray.starts) == ([], 1)
    assert find_ends(reports) == {0: (143, "Stopped after step 3."), 1: (143, "Stopped after step 3.")}


def test_a_rank_that_waits_for_a_failed_one_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "GRACE", 0.5)
    code = "leave(2, 'bad data') if number else time.sleep(60)"
    reports, ray, thread, errors = run_toys(code, tmp_path, monkeypatch, max_failures=2)
    thread.join(60)
    assert (errors, ray.starts) == ([], 1)
    assert find_ends(reports)[1] == (2, "bad data")
    assert reports.ends[0]["lost"]
    assert judge_ends([RankReport(**end) for end in reports.list_ends()], [], None) == (2, "bad data")


def test_the_command_is_that_of_the_person() -> None:
    assert build_command(["train", "seed=1"]) == [sys.executable, "-m", "fulgurite", "train", "seed=1"]


def test_a_start_waits_for_the_process_of_the_one_before(tmp_path: Path) -> None:
    wait_for_release(tmp_path)
    with hold_lock(tmp_path / LOCK, timeout=1.0):
        # a lock of this process counts as held for others alone, so another one holds it
        pid = os.fork()
        if pid == 0:
            began = time.monotonic()
            wait_for_release(tmp_path, 0.5)
            os._exit(0 if time.monotonic() - began >= 0.5 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
