"""The parameters of the rules that watch a run while it trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fulgurite.config.frozen import Freezable
from fulgurite.config.schema import knob


@dataclass(slots=True)
class Monitor(Freezable):
    """Which findings a run reports while it trains."""

    room: ClassVar[str] = "monitor"

    ignore: list[str] = knob(
        [], "Rules that watch the run and shall keep silent, by id.", source="Ours",
        advice="Each sentence names its rule. Silence one that you have understood: monitor.ignore=[clip-share].",
    )
