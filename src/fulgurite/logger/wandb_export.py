"""Links an exported folder to the W&B run that trained it: the run's model → an export → the folder's files."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from fulgurite.language.library_errors import quote_foreign
from fulgurite.language.message import UserMessage, message
from fulgurite.logger.tracked_run import RunInput
from fulgurite.logger.wandb_artifacts import clean_name, use_input
from fulgurite.logger.wandb_probe import find_key, probe_key

WAIT, UPLOAD = 10.0, 3600.0
"""Seconds to wait for the server's first answer, and for an upload."""


def track_export(run_dir: Path, out: Path) -> UserMessage:
    """Uploads the folder as the artifact `export-ID` of a W&B run of its own, with the job type `export`, whose input
    is the model of the training run ID. Returns a sentence about it; raises nothing, because the folder is complete.

    The training run itself is not opened again: wandb would change its state and its end.
    """
    import wandb

    project, _, id = (run_dir / "wandb" / "path").read_text(encoding="utf-8").strip().rpartition("/")
    entity, _, project = project.partition("/")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    server = wandb.setup(wandb.Settings(silent=True)).settings.base_url
    key = find_key(server)
    reason = probe_key(server, key, WAIT) if key else message("no API key for {server}", server=server)
    if not reason:
        try:
            url = _upload(entity, project, id, run_dir, out)
            return message("W&B has it as {name}: {url}", name=f"export-{id}", url=url)
        except Exception as error:  # wandb raises what its server and its own process answer
            reason = quote_foreign((str(error).splitlines() or [type(error).__name__])[0], 200)
    return message(
        "warning: W&B does not have the export ({reason}); the folder is complete without it.", reason=reason
    )


def _upload(entity: str, project: str, id: str, run_dir: Path, out: Path) -> str:
    """Returns the address of the run that has the export as its output."""
    import wandb

    quiet = wandb.Settings(
        silent=True, console="off", disable_git=True, disable_code=True, save_code=False, x_disable_meta=True,
        disable_job_creation=True, init_timeout=WAIT, finish_timeout=UPLOAD, finish_timeout_raises=True,
    )
    with tempfile.TemporaryDirectory() as place:
        experiment: Any = wandb.init(
            entity=entity, project=project, name=f"export-{id}", job_type="export", dir=place, mode="online",
            config={"run": id, "folder": out.name}, settings=quiet,
        )
        use_input(experiment, RunInput("model", f"model-{id}", {"run": id}, run=run_dir))
        artifact = wandb.Artifact(clean_name(f"export-{id}"), type="model", metadata={"folder": out.name, "run": id})
        artifact.add_dir(str(out), policy="immutable")
        experiment.log_artifact(artifact, aliases=[clean_name(out.name)])
        experiment.finish()
        return str(experiment.url)
