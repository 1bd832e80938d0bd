"""The parameters of `fulgurite export`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import ClassVar

from fulgurite.config.arguments import parse
from fulgurite.config.guard import Allowed, split_allowed
from fulgurite.config.paths import check_run_folder
from fulgurite.config.schema import Empty, knob
from fulgurite.errors import RequestError


class ExportDtype(StrEnum):
    """The type of the numbers in an exported folder."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


@dataclass(slots=True)
class Export:
    """The run and its checkpoint, the new folder, the dtype, and whether the adapter is merged into the model."""

    room: ClassVar[str] = "export"

    run: str = knob("", "The run folder.", source="Ours", advice="`fulgurite runs` lists them.")
    out: str = knob("", "The folder to write.", source="Ours", advice="A new one: nothing is overwritten.")
    checkpoint: str = knob(
        "best", "The checkpoint: best, last, or step-N.", source="Ours",
        advice="best is the one with the lowest validation loss.",
    )
    merge: bool = knob(
        True, "Merge an adapter into the model, so that plain transformers loads the folder.",
        source="peft docs, merge_and_unload",
        advice="false writes the adapter alone: a small folder, which can be combined with others or removed.",
    )
    dtype: ExportDtype | None = knob(
        None, "The type of the exported weights, each rounded once, after merging in float32.",
        source="transformers docs, dtype of from_pretrained; keeping the base's: ours",
        advice="float32 to continue training from the folder without rounding; float16 only if a server needs it.",
        empty=Empty("the base model's own"), memory="float32 is twice as large.",
    )


def read(words: Sequence[str]) -> tuple[Allowed, Export, Path]:
    """Returns the permissions, the parameters and the absolute folder of an export. Raises RequestError.

    Loads no torch, so that wrong words are refused at once.
    """
    allowed, rest = split_allowed(words)
    config = parse(Export, rest, "export")
    if not config.run or not config.out:
        raise RequestError("fulgurite export needs a run and a new folder: run=<run folder> out=<new folder>.")
    check_run_folder(config.run, "run")
    out = Path(config.out).expanduser().absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RequestError(
            "out={path} exists already and is not empty; give a new folder, because nothing is overwritten.", path=out
        )
    return allowed, config, out
