"""Trackers that get the metrics in addition to metrics.jsonl, which is always written."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fulgurite.config.schema import Empty, Option, above, between, knob, option
from fulgurite.language.message import UserMessage, message

if TYPE_CHECKING:
    from fulgurite.config.run import RunConfig


@dataclass(slots=True)
class Logger(Option):
    """The declarations of every tracker."""

    several: ClassVar[bool] = True
    takes_metrics: ClassVar[bool] = True
    """Whether it stores every logged number; else only those of metrics.jsonl."""
    needs: ClassVar[str] = ""
    """The package that it needs beside our own requirements, for `pip install` and `import`."""

    def find_refusal(self, run: RunConfig) -> UserMessage | None:
        """Refuses to start if the package that the tracker needs is not installed."""
        if not self.needs or importlib.util.find_spec(self.needs) is not None:
            return None
        return message(
            "logger={name} needs the package {package}, which is not installed; install it: pip install {package}",
            name=self.name, package=self.needs,
        )


@option("logger", "wandb")
@dataclass(slots=True)
class Wandb(Logger):
    """Weights & Biases: online if there is an API key and the server answers, otherwise offline. It never delays or
    stops a run."""

    builds: ClassVar[str] = "fulgurite.logger.wandb:build"
    costs: ClassVar[str] = "A few seconds at the start; an account, or offline files."
    needs: ClassVar[str] = "wandb"

    project: str = knob(
        "fulgurite", "The W&B project.", source="W&B docs, wandb.init",
        advice="Use one project for the runs that you want to compare.",
    )
    entity: str | None = knob(
        None, "The W&B team or user.", source="W&B docs, wandb.init", advice="Set it only for a team.",
        empty=Empty("your default team or user"),
    )
    wait: float = knob(
        5.0, "Seconds to wait for the server before the run goes offline.",
        source="measured: wandb.init blocks 10 s and more on a dead server, then raises (ecosystem notes)",
        bounds=above(0, 60), usual=between(1, 15), advice="5 is enough for a normal connection.",
        raise_when="Behind a slow proxy.", lower_when="If the server is often down.",
        time="At most this many seconds, once.",
    )


@option("logger", "tensorboard")
@dataclass(slots=True)
class TensorBoard(Logger):
    """TensorBoard event files in the run folder. Needs the package tensorboard (`pip install tensorboard`)."""

    builds: ClassVar[str] = "fulgurite.logger.tensorboard:build"
    costs: ClassVar[str] = "The package tensorboard."
    needs: ClassVar[str] = "tensorboard"


@option("logger", "csv")
@dataclass(slots=True)
class Csv(Logger):
    """metrics.csv in the run folder, one column per metric. For spreadsheets."""

    builds: ClassVar[str] = "fulgurite.logger.csv:build"
    takes_metrics: ClassVar[bool] = False
    costs: ClassVar[str] = "Nothing."
