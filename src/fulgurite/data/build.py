"""Builds the dataset of an option of `data`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fulgurite.data.file_form import FileForm, build_form
from fulgurite.data.files import find_files
from fulgurite.data.reads import reads_of
from fulgurite.data.registry import find_registered
from fulgurite.data.source import Source
from fulgurite.errors import DataError

GUIDE = Path(__file__).parent / "guide"


def build_source(config: Any, *, stage: str, seed: int) -> Source:
    """Builds the dataset of an option of `data`.

    Raises DataError if it has no files, or the stage does not read it.
    """
    if config.shipped[0]:
        training, held_out = ([GUIDE / name] if name else [] for name in config.shipped)
        forms = [FileForm(config.shipped_format)] * (len(training) + len(held_out))
        return Source(config, stage, training, held_out, forms)
    groups, val, forms = _find_registered(config, stage) if config.registry else _find_plain(config)
    train = [path for group in groups for path in group]
    _refuse_twice(train, val)
    if config.weights and len(config.weights) != len(groups):
        raise DataError(
            "data.weights has {weights} numbers, but {parameter} has {paths} entries; give one number per entry.",
            weights=len(config.weights), paths=len(groups),
            parameter="data.dataset" if config.registry else "data.path",
        )
    weights = [w for w, group in zip(config.weights, groups, strict=True) for _ in group] if config.weights else []
    return Source(config, stage, train, val, forms, weights)


def _find_plain(config: Any) -> tuple[list[list[Path]], list[Path], list[FileForm]]:
    """Returns the files for training by the entries of data.path, those for validation, and the form of each."""
    if config.dataset or config.val_dataset:
        raise DataError("data.dataset needs data.registry=<dataset_info.json>; files alone are given by data.path.")
    if not config.path:
        raise DataError("data=file needs data.path=<file>, such as data.path=my_examples.jsonl.")
    groups, val = find_files(config.path), find_files(config.val_path, "data.val_path")
    form = build_form(config.format, config.columns, config.roles)
    held_out = [path for group in val for path in group]
    return groups, held_out, [form] * (sum(map(len, groups)) + len(held_out))


def _find_registered(config: Any, stage: str) -> tuple[list[list[Path]], list[Path], list[FileForm]]:
    """Returns the same for the datasets of a registry, each of which has a form of its own."""
    given = [name for name in ("columns", "roles", "val_path") if getattr(config, name)]
    if given or config.format != "auto":
        raise DataError(
            "data.registry defines how each dataset is read; leave data.{parameter} out.",
            parameter=given[0] if given else "format",
        )
    reads = reads_of(stage)
    train = find_registered(config.registry, config.dataset, config.path, reads)
    val = find_registered(config.registry, config.val_dataset, config.path, reads, "data.val_dataset") \
        if config.val_dataset else []
    for dataset in val:
        if dataset.form.limit is not None:
            raise DataError("{owner} has num_samples, which is for training; remove it to validate with the dataset.",
                            owner=dataset.form.owner)
    forms = [dataset.form for dataset in (*train, *val) for _ in dataset.files]
    return [list(dataset.files) for dataset in train], [path for dataset in val for path in dataset.files], forms


def _refuse_twice(train: list[Path], val: list[Path]) -> None:
    """Raises DataError if a file is trained on and validated with; the same file by another path counts too."""
    twice = {path.resolve() for path in train} & {path.resolve() for path in val}
    if twice:
        raise DataError(
            "{path} is in data.path and in data.val_path; validate with examples that are not trained on.",
            path=min(twice),
        )
