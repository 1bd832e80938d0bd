"""What `fulgurite export` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fulgurite.schema import knob


@dataclass(slots=True)
class Export:
    """Which run, which checkpoint, where to, and whether the adapter is merged into the model."""

    room: ClassVar[str] = "export"

    run: str = knob("", "The run's folder.", source="Ours", advice="`fulgurite runs` lists them.")
    out: str = knob("", "The folder to make.", source="Ours", advice="A new one: nothing is overwritten.")
    checkpoint: str = knob(
        "best", "Which checkpoint: best, last, or step-N.", source="Ours", advice="best is the one with the lowest validation loss.",
    )
    merge: bool = knob(
        True, "Whether an adapter becomes part of the model, so that plain transformers loads the folder.",
        source="peft docs, merge_and_unload", advice="false keeps the adapter apart: small, and it can be stacked or taken off.",
    )
