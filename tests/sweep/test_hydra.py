"""Hydra's launchers: joblib's and submitit's jobs run in processes of their own, and what became of them comes back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.sweep.test_study import TINY

from fulgurite.cli.main import main

PLAIN = [*TINY[2:], "stage.prompts=[]", "trainer.num_workers=0"]


def launcher(name: str) -> list[str]:
    """The words that choose a launcher; skips where its plug-in is not installed."""
    pytest.importorskip(f"hydra_plugins.hydra_{name.partition('_')[0]}_launcher")
    return [f"hydra/launcher={name}", "hydra.launcher.n_jobs=2"] if name == "joblib" else [f"hydra/launcher={name}"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["joblib", pytest.param("submitit_local", marks=pytest.mark.matrix)])
def test_each_value_is_a_run_in_a_process_of_its_own_and_a_wrong_one_is_told(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import os

    assert main(["train", "-m", *PLAIN, *launcher(name), "optim.lr=1e-4,-1"]) == 2
    [sweep] = tmp_path.glob("runs/*/*_sweep")
    runs = sorted(path.parent for path in sweep.glob("*/config.yaml"))
    assert [run.name for run in runs] == ["0"]
    states = [json.loads((run / "status.json").read_text()) for run in runs]
    assert [state["state"] for state in states] == ["finished"]
    assert os.getpid() not in {state["pid"] for state in states}
    rates = [json.loads((run / "provenance.json").read_text())["knobs"]["optim.lr"]["value"] for run in runs]
    assert rates == [1e-4]
    assert "optim.lr=-1" in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param("joblib", marks=pytest.mark.matrix), "submitit_local"])
def test_a_search_hands_trials_out_and_gets_back_how_each_ended(name: str, tmp_path: Path) -> None:
    from fulgurite.config.sweep import Sweep
    from fulgurite.sweep.storage import open_storage
    from fulgurite.sweep.study import open_study

    words = [*TINY, *launcher(name), "stage.prompts=[]", "sweep.trials=2", "sweep.at_once=2", "sweep.study=one"]
    assert main(["train", "-m", *words]) == 0
    folder = tmp_path / "runs" / "sweeps" / "one"
    trials = [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]
    assert [trial["state"] for trial in trials] == ["complete"] * 2
    for trial in trials:
        rows = [json.loads(line) for line in (folder / str(trial["trial"]) / "metrics.jsonl").read_text().splitlines()]
        assert trial["value"] == min(row["val/loss"] for row in rows if "val/loss" in row)
        assert set(trial["evaluations"]) == {"50", "100"}
    study = open_study(Sweep(study="one"), open_storage(f"sqlite:///{folder}/study.db"))
    pids = {trial.user_attrs["runner"]["pid"] for trial in study.get_trials()}
    assert len(pids) > 1
    assert {trial.user_attrs["pid"] for trial in study.get_trials()}.isdisjoint(pids)
