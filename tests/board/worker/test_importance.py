"""The process that computes which parameters of a search matter."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest

from fulgurite.board.worker.importance import load_study, main


def make_study(path: Path) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(study_name="mine", storage=f"sqlite:///{path}")
    span = optuna.distributions.FloatDistribution(0.0, 1.0)
    for n in range(40):
        drawn = {"a": n / 40, "b": (n * 17 % 40) / 40}
        trial = optuna.create_trial(params=drawn, distributions={"a": span, "b": span}, value=n / 40)
        study.add_trial(trial)


def test_the_parameter_that_decides_has_the_largest_share(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_study(tmp_path / "study.db")
    assert main([str(tmp_path / "study.db"), "60"]) == 0
    shares = json.loads(capsys.readouterr().out)
    assert shares["a"] > shares["b"]


def test_study_is_only_read(tmp_path: Path) -> None:
    make_study(tmp_path / "study.db")
    (tmp_path / "study.db").chmod(0o400)
    before = (tmp_path / "study.db").read_bytes()
    assert len(load_study(tmp_path / "study.db").trials) == 40
    assert (tmp_path / "study.db").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["study.db"]
