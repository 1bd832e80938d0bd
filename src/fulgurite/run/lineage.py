"""What a run is made from, for the trackers: its data, its starting model, adapter and reference model."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from fulgurite.data.source import Source
from fulgurite.logger.tracked_run import RunInput
from fulgurite.method.config import Method
from fulgurite.model.config import Hf, Model
from fulgurite.run.input_hashes import hash_inputs
from fulgurite.run.sources import hash_start, is_run
from fulgurite.stage.config import Stage

HASHES = {"model": ("weights", "model_config", "tokenizer", "start"), "adapter": ("adapter",),
          "reference": ("reference",)}
"""The names of `hash_inputs` that identify each kind of model."""


def list_inputs(model: Model, method: Method, stage: Stage, source: Source, folder: Path) -> tuple[RunInput, ...]:
    """Returns the inputs of the run in `folder`; its data report describes the data. Hashes each file once."""
    hashes = {**hash_inputs(model, method, stage), **hash_start(model)}
    return (_describe_data(source, folder), *_list_models(model, method, stage, hashes))


def _describe_data(source: Source, folder: Path) -> RunInput:
    files = [os.fspath(path) for path in source.files]
    seal = source.checked.seal.hex() if source.checked is not None else ""
    option = source.config.name
    facts = {"data": option, "files": files, "records_sha256": seal}
    return RunInput("dataset", f"data-{option}-{Path(files[0]).stem}", facts, (folder / "data_report.json",))


def _list_models(model: Model, method: Method, stage: Stage, hashes: dict[str, str]) -> Iterator[RunInput]:
    parts: list[tuple[str, Model]] = [("model", model)]
    for role, path in (
        ("adapter", getattr(method, "adapter_path", None)), ("reference", getattr(stage, "reference", None)),
    ):
        if path:
            parts.append((role, Hf(path=path)))
    for role, part in parts:
        folder = part.folder()
        facts = {
            "role": role, "path": str(folder or part.name), "revision": getattr(part, "revision", None),
            **{name: hashes[name] for name in HASHES[role] if name in hashes},
        }
        run = _find_run(folder)
        yield RunInput("model", f"{role}-{name_path(str(folder or part.name))}", facts, run=run)


def _find_run(folder: Path | None) -> Path | None:
    """Returns the run folder that `folder` is, or is a checkpoint or an export inside of."""
    if folder is None:
        return None
    return next((place for place in (folder, *folder.resolve().parents[:2]) if is_run(place)), None)


def name_path(path: str) -> str:
    """Returns the last two parts of a path or hub id, which tell models apart, as one word."""
    return "-".join(part for part in re.split(r"[/\\]", path)[-2:] if part)
