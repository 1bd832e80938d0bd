"""Where the numbers go beside metrics.jsonl, which is always written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fulgurite.config.schema import Empty, Option, above, between, knob, option


@dataclass(slots=True)
class Logger(Option):
    """What every tracker declares."""

    several: ClassVar[bool] = True
    takes_metrics: ClassVar[bool] = True
    """Whether it keeps every number that is logged; else only those of metrics.jsonl."""


@option("logger", "wandb")
@dataclass(slots=True)
class Wandb(Logger):
    """Weights & Biases: online when a key is there and the server answers, offline
    otherwise. Never in the run's way."""

    builds: ClassVar[str] = "fulgurite.logger.wandb:build"
    costs: ClassVar[str] = "A few seconds at the start; an account, or offline files."

    project: str = knob(
        "fulgurite", "The W&B project.", source="W&B docs, wandb.init", advice="One project a question."
    )
    entity: str | None = knob(
        None, "The W&B team or user.", source="W&B docs, wandb.init", advice="Only for teams.",
        empty=Empty("your default entity"),
    )
    wait: float = knob(
        5.0, "How many seconds the server may take to answer before the run goes offline.",
        source="measured: wandb.init blocks 10 s and more on a dead server, then raises (ecosystem notes)",
        bounds=above(0, 60), usual=between(1, 15), advice="Raise it behind a slow proxy.",
        raise_when="Behind a slow proxy.", lower_when="When a dead server should hold nobody up.",
        time="At most so many seconds, once.",
    )


@option("logger", "tensorboard")
@dataclass(slots=True)
class TensorBoard(Logger):
    """TensorBoard event files in the run folder. Needs the package tensorboard."""

    builds: ClassVar[str] = "fulgurite.logger.tensorboard:build"
    costs: ClassVar[str] = "The package tensorboard."


@option("logger", "csv")
@dataclass(slots=True)
class Csv(Logger):
    """metrics.csv in the run folder, one column a metric. For spreadsheets."""

    builds: ClassVar[str] = "fulgurite.logger.csv:build"
    takes_metrics: ClassVar[bool] = False
    costs: ClassVar[str] = "Nothing."
