"""What `fulgurite export` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from fulgurite.config.schema import Empty, knob


class ExportDtype(StrEnum):
    """The type of the numbers in an exported folder."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


@dataclass(slots=True)
class Export:
    """Which run, which checkpoint, where to, in which dtype, and whether the adapter is merged into the model."""

    room: ClassVar[str] = "export"

    run: str = knob("", "The run's folder.", source="Ours", advice="`fulgurite runs` lists them.")
    out: str = knob("", "The folder to make.", source="Ours", advice="A new one: nothing is overwritten.")
    checkpoint: str = knob(
        "best", "Which checkpoint: best, last, or step-N.", source="Ours",
        advice="best is the one with the lowest validation loss.",
    )
    merge: bool = knob(
        True, "Whether an adapter becomes part of the model, so that plain transformers loads the folder.",
        source="peft docs, merge_and_unload",
        advice="false keeps the adapter apart: small, and it can be stacked or taken off.",
    )
    dtype: ExportDtype | None = knob(
        None, "The type of the exported weights, each rounded once, after merging in float32.",
        source="transformers docs, dtype of from_pretrained; keeping the base's: ours",
        advice="float32 to go on training from the folder without a loss; float16 only where a server wants it.",
        empty=Empty("the base model's own"), memory="float32 is twice as large.",
    )
