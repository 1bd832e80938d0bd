"""W&B artifacts: the inputs of a run, and its checkpoints as folders that Fulgurite can open."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fulgurite.language.library_errors import quote_foreign
from fulgurite.language.message import message
from fulgurite.logger.tracked_run import RunInput

log = logging.getLogger(__name__)

RUN_FILES = ("config.yaml", "provenance.json")
"""What a downloaded checkpoint needs to be a run folder, which `chat`, `export` and `resume.run` take."""


def build_checkpoint_artifact(id: str, run_dir: Path, checkpoint: Path, *, copies: bool) -> Any:
    """Returns a checkpoint as the artifact `model-ID`, under the name that Lightning gives it; None with a warning if
    its folder is gone.

    `copies` makes wandb copy the files before it uploads them, for a checkpoint that a newer one may replace meanwhile.
    """
    import wandb

    policy: Any = "mutable" if copies else "immutable"
    artifact = wandb.Artifact(f"model-{id}", type="model", metadata={"checkpoint": checkpoint.name})
    try:
        for name in RUN_FILES:
            if (run_dir / name).is_file():
                artifact.add_file(str(run_dir / name), name, policy="mutable")
        artifact.add_dir(str(checkpoint), f"checkpoints/{checkpoint.name}", policy=policy)
    except (OSError, ValueError) as error:
        log.warning(message(
            "W&B gets no artifact of {checkpoint}: {error}",
            checkpoint=checkpoint.name, error=quote_foreign(str(error).splitlines()[0]),
        ))
        return None
    return artifact


def build_input_artifact(one: RunInput) -> Any:
    """Returns a small artifact that describes an input; its content is the same for the same input, so that W&B makes
    no new version of it."""
    import wandb

    artifact = wandb.Artifact(clean_name(one.name), type=one.kind, metadata=dict(one.facts))
    with artifact.new_file(f"{one.kind}.json", encoding="utf-8") as file:
        file.write(json.dumps(one.facts, indent=1, sort_keys=True, ensure_ascii=False))
    for path in one.files:
        if path.is_file():
            artifact.add_file(str(path), path.name, policy="mutable")
    return artifact


def clean_name(name: str) -> str:
    """Returns a name with only the characters that W&B allows in that of an artifact, at most 128."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name)[:128]


def link_inputs(experiment: Any, inputs: Sequence[RunInput]) -> threading.Thread:
    """Links the inputs to an online run, on a started thread: wandb waits for the server at each of them."""

    def link() -> None:
        for one in inputs:
            try:
                use_input(experiment, one)
            except Exception as error:
                log.warning(message(
                    "W&B does not link the input {name} ({error}); it is in the run's config.",
                    name=one.name, error=quote_foreign((str(error).splitlines() or [type(error).__name__])[0], 200),
                ))

    thread = threading.Thread(target=link, name="wandb-inputs", daemon=True)
    thread.start()
    return thread


def use_input(experiment: Any, one: RunInput) -> None:
    """Links one input: an earlier run's own model artifact if it has uploaded one, else a description."""
    import wandb

    if one.run is not None and (name := find_model_artifact(one.run)):
        try:
            experiment.use_artifact(name, type="model")
            return
        except (wandb.Error, ValueError) as error:
            log.debug("%s: %s", name, error)  # that run kept its checkpoints to itself
    experiment.use_artifact(build_input_artifact(one))


def find_model_artifact(run_dir: Path) -> str:
    """Returns the full name of the model artifact that a run may have uploaded; empty if it was never online."""
    place = run_dir / "wandb" / "path"
    if not place.is_file():
        return ""
    project, _, id = place.read_text(encoding="utf-8").strip().rpartition("/")
    return f"{project}/model-{id}:latest"
