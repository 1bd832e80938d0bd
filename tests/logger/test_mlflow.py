"""MLflow: a local database, the same run after a resume, and a server that is not there."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from tests.logger.wandb_server import closed_port

from fulgurite.config.compose import compose
from fulgurite.errors import ConfigError
from fulgurite.logger.guard import GuardedLogger
from fulgurite.logger.mlflow import build
from fulgurite.logger.tracked_run import RunInput, TrackedRun
from fulgurite.plan.preflight import refuse_impossible

pytest.importorskip("mlflow")
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")
"""Of MLflow's own database classes."""


def make_run(folder: Path) -> TrackedRun:
    checkpoint = folder / "checkpoints" / "step-2"
    checkpoint.mkdir(parents=True, exist_ok=True)
    for path in (folder / "config.yaml", folder / "provenance.json", folder / "data_report.json", checkpoint / "w"):
        path.write_text("{}")
    data = RunInput("dataset", "data-x", {"records_sha256": "7"}, (folder / "data_report.json",))
    settings = {"name": "mine", "optim.lr": 0.1, "trainer.micro_batch_size": 8}
    return TrackedRun(folder, settings, words=("stage=sft",), inputs=(data,))


def open_tracker(run: TrackedRun, *words: str) -> GuardedLogger:
    return build(compose(["logger=mlflow", "logger.mlflow.checkpoints=last", *words]).run.logger["mlflow"], run)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, str, Path]:
    """A client, the id of a run that was resumed, and the run's folder."""
    from mlflow.tracking import MlflowClient

    home = tmp_path_factory.mktemp("mlflow")
    folder = home / "run"
    address = f"sqlite:///{home}/mlflow.db"
    words = [f"logger.mlflow.tracking_uri={address}", "logger.mlflow.tags={team: search}", "logger.mlflow.notes=Why",
             "logger.mlflow.group=seeds", "logger.mlflow.experiment_name=e"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)  # the artifacts of a local database are in the current folder
        run = make_run(folder)
        tracker = open_tracker(run, *words)
        tracker.log_metrics({"train/loss": 2.0}, 1)
        tracker.correct("trainer.micro_batch_size", 4, "halved")
        tracker.alert("norm-high", "warning", "The norm is high.", 1)
        tracker.log_text("samples", ["prompt"], [["Why?"]], 1)
        tracker.finalize("failed")
        again = open_tracker(run, *words)
        again.log_metrics({"train/loss": 1.0}, 2)
        again.log_checkpoint(folder / "checkpoints" / "step-2", 2, "best")
        again.log_checkpoint(folder / "checkpoints" / "step-2", 2, "last")
        again.finalize("success")
    assert tracker.works
    assert again.works
    return MlflowClient(address), (folder / "mlflow" / "id").read_text(), folder


def test_a_resumed_run_continues_the_same_mlflow_run(stored: tuple[Any, str, Path]) -> None:
    client, id, _ = stored
    found = client.get_run(id)
    assert (found.info.run_name, found.info.status) == ("mine", "FINISHED")
    assert len(client.search_runs([found.info.experiment_id])) == 1
    assert client.get_experiment(found.info.experiment_id).name == "e"
    assert [(m.step, m.value) for m in client.get_metric_history(id, "train/loss")] == [(1, 2.0), (2, 1.0)]


def test_a_run_has_its_parameters_and_tags_and_only_those(stored: tuple[Any, str, Path]) -> None:
    client, id, _ = stored
    data = client.get_run(id).data
    assert data.params == {"name": "mine", "optim.lr": "0.1", "trainer.micro_batch_size": "8"}
    expected = {
        "team": "search", "group": "seeds", "mlflow.note.content": "Why", "mlflow.runName": "mine",
        "mlflow.source.name": "fulgurite train stage=sft", "trainer.micro_batch_size": "4 (halved)",
        "finding.norm-high": "warning, step 1: The norm is high.", "checkpoint.last": "step-2",
    }
    assert data.tags == expected  # outside a repository there is no commit


def test_the_artifacts_are_the_checkpoint_asked_for_and_the_origin(stored: tuple[Any, str, Path]) -> None:
    client, id, folder = stored
    place = folder.parent / "mlruns" / client.get_run(id).info.experiment_id / id / "artifacts"
    files = {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}
    assert files == {
        "data_report.json", "origin.json", "samples.md", "model/config.yaml", "model/provenance.json",
        "model/checkpoints/step-2/w",
    }
    assert json.loads((place / "origin.json").read_text())["inputs"] == [
        {"kind": "dataset", "name": "data-x", "records_sha256": "7"}
    ]


def test_a_server_that_is_not_there_switches_it_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    tracker = open_tracker(make_run(tmp_path), f"logger.mlflow.tracking_uri={closed_port()}")
    tracker.log_metrics({"train/loss": 1.0}, 1)
    tracker.finalize("success")
    assert not tracker.works
    (warning,) = [r.getMessage() for r in caplog.records if r.name == "fulgurite.logger.guard"]
    assert warning.startswith("logger=mlflow failed (MlflowException:")
    assert warning.endswith("metrics.jsonl has every number.")


def test_a_missing_package_is_one_sentence_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs the package mlflow-skinny, .*: pip install mlflow-skinny$"):
        refuse_impossible(compose(["logger=mlflow"]).run)
