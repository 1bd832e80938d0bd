"""MLflow through Lightning's MLFlowLogger: a local database, or a tracking server."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

from fulgurite.logger.config import CheckpointUpload, MLflow
from fulgurite.logger.guard import GuardedLogger
from fulgurite.logger.tensorboard import to_markdown
from fulgurite.logger.tracked_run import TrackedRun, find_origin, read_id, write_id

LOCAL = "sqlite:///mlflow.db"
"""MLflow's own default."""
LONGEST_TAG = 5000
"""Characters of a tag's value; MLflow refuses a longer one."""


def build(config: MLflow, run: TrackedRun) -> GuardedLogger:
    """Returns the started tracker. Raises nothing: a server that does not answer switches the tracker off."""
    uploads = config.checkpoints is not CheckpointUpload.none
    found = GuardedLogger(
        lambda: _open(config, run), name="mlflow", patience=lambda: 30.0 + (config.upload_wait if uploads else 0.0)
    )
    found.start()
    return found


def _open(config: MLflow, run: TrackedRun) -> Any:
    # Before the import: MLflow reports its use to its makers, and asks a silent server for many minutes.
    for name, value in (
        ("MLFLOW_DISABLE_TELEMETRY", "true"), ("MLFLOW_HTTP_REQUEST_TIMEOUT", "10"),
        ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2"),
    ):
        os.environ.setdefault(name, value)
    for library in ("mlflow", "alembic"):  # they print each step of making the database
        logging.getLogger(library).setLevel(logging.WARNING)
    from mlflow.tracking import MlflowClient

    address = config.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or LOCAL
    client = MlflowClient(address)
    known = config.run_id or read_id(run.folder, "mlflow")
    if known:
        client.update_run(known, status="RUNNING")
    id = write_id(run.folder, "mlflow", known or _create_run(client, config, run))
    board = _build_board(config, run)(tracking_uri=address, run_id=id)
    if not known:
        board.log_hyperparams({**run.settings, **run.summary})
        board.log_origin()
    return board


def _create_run(client: Any, config: MLflow, run: TrackedRun) -> str:
    """Returns the id of a new run. Not made by Lightning, which adds what MLflow finds out by itself: the full path of
    the command, the user, and the commit, whether it is wanted or not."""
    experiment = client.get_experiment_by_name(config.experiment_name)
    place = experiment.experiment_id if experiment else client.create_experiment(config.experiment_name)
    return str(client.create_run(place, tags=_list_tags(config, run), run_name=run.name).info.run_id)


def _list_tags(config: MLflow, run: TrackedRun) -> dict[str, str]:
    """Returns the tags of a new run, those that MLflow shows under its own names."""
    tags = dict(config.tags)
    tags |= {"mlflow.note.content": config.notes} if config.notes else {}
    tags |= {"group": config.group} if config.group else {}
    origin = find_origin(config, run.words)
    # MLflow shows these two in a column of their own; its commit has no mark for changed files.
    tags |= {"mlflow.source.git.commit": origin["git_commit"].partition("-")[0]} if "git_commit" in origin else {}
    return tags | {"mlflow.source.name": origin.pop("command", "fulgurite"), **origin}


def _build_board(config: MLflow, run: TrackedRun) -> Any:
    from lightning.pytorch.loggers import MLFlowLogger

    class Board(MLFlowLogger):  # type: ignore[misc]
        def correct(self, knob: str, value: Any, reason: str) -> None:
            # A parameter of MLflow cannot be changed: the value is a tag.
            self.experiment.set_tag(self.run_id, knob, f"{value} ({reason})"[:LONGEST_TAG])

        def alert(self, rule: str, severity: str, text: str, step: int) -> None:
            self.experiment.set_tag(
                self.run_id, f"finding.{rule}", f"{severity}, step {step}: {text}"[:LONGEST_TAG]
            )

        def log_text(self, key: str, columns: list[str], data: list[list[str]], step: int | None = None) -> None:
            self.experiment.log_text(self.run_id, to_markdown(columns, data), f"{key}.md")

        def log_origin(self) -> None:
            details = {"provenance": dict(run.provenance), "inputs": run.describe(config)["inputs"]}
            self.experiment.log_text(self.run_id, json.dumps(details, indent=1), "origin.json")
            for path in (path for one in run.inputs for path in one.files if path.is_file()):
                self.experiment.log_artifact(self.run_id, str(path))

        def log_checkpoint(self, folder: Path, step: int, kind: str) -> None:
            if kind == config.checkpoints.value and folder.is_dir():
                # In the layout of a run folder, so that chat, export and resume.run take the downloaded artifacts.
                self.experiment.log_artifacts(self.run_id, str(folder), f"model/checkpoints/{folder.name}")
                for name in ("config.yaml", "provenance.json"):
                    self.experiment.log_artifact(self.run_id, str(run.folder / name), "model")
                self.experiment.set_tag(self.run_id, f"checkpoint.{kind}", folder.name)

    return Board
