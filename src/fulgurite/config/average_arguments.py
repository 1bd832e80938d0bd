"""The parameters of `fulgurite average`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum, auto
from pathlib import Path
from typing import ClassVar

from fulgurite.config.arguments import parse
from fulgurite.config.export_arguments import ExportDtype, check_new_folder
from fulgurite.config.guard import Allowed, split_allowed
from fulgurite.config.paths import check_run_folder
from fulgurite.config.schema import Empty, between, knob
from fulgurite.errors import RequestError


class AverageWeights(StrEnum):
    """How much each member counts."""

    uniform = auto()
    ema = auto()


@dataclass(slots=True)
class Average:
    """The runs or checkpoints whose weights are averaged, how much each counts, and the new folder."""

    room: ClassVar[str] = "average"

    run: list[str] = knob(
        [], "The run folders, each in a word of its own: run=A run=B.", source="Model soups, Wortsman et al., "
        "https://arxiv.org/abs/2203.05482",
        advice="Runs of the same base and data with other seeds or rates; or one run with several checkpoints.",
    )
    out: str = knob("", "The folder to write.", source="Ours", advice="A new one: nothing is overwritten.")
    checkpoints: list[str] = knob(
        ["best"], "The checkpoints of each run: best, last, or step-N.",
        source="LAWA, Kaddour, https://arxiv.org/abs/2209.14981",
        advice="The last three to five of one run, if its learning rate was still high when it ended.",
        misread="A run keeps as many as trainer.keep_checkpoints.",
    )
    weights: AverageWeights = knob(
        AverageWeights.uniform, "How much each member counts: all the same, or later checkpoints of one run more.",
        source="https://docs.pytorch.org/docs/stable/optim.html, AveragedModel",
        advice="uniform for runs; ema for many checkpoints of one run.",
        interacts={"average.decay": "ema reads it"},
    )
    decay: float | None = knob(
        None, "The share of the average so far that each later checkpoint leaves: a decay of 0.9 counts it 0.1.",
        source="https://docs.pytorch.org/docs/stable/optim.html, get_ema_multi_avg_fn; the value is ours",
        bounds=between(0, 1),
        usual=between(0.3, 0.9), advice="The more checkpoints, the higher: about 1 - 2 / (members + 1).",
        empty=Empty("1 - 2 / (members + 1)"), raise_when="With many checkpoints.",
        lower_when="When early checkpoints are much worse.", interacts={"average.weights": "only ema reads it"},
    )
    dtype: ExportDtype | None = knob(
        None, "The type of the averaged weights, each rounded once, after averaging in float32.",
        source="transformers docs, dtype of from_pretrained; keeping the base's: ours",
        advice="float32 to continue training from the folder without rounding.",
        empty=Empty("the base model's own"), memory="float32 is twice as large.",
    )


def read(words: Sequence[str]) -> tuple[Allowed, Average, Path]:
    """Returns the permissions, the parameters and the absolute folder of an average. Raises RequestError.

    Loads no torch, so that wrong words are refused at once.
    """
    allowed, rest = split_allowed(words)
    runs = [word.partition("=")[2] for word in rest if word.startswith("run=")]
    config = parse(Average, [word for word in rest if not word.startswith("run=")], "average")
    config.run = runs
    if not config.run or not config.out:
        raise RequestError(
            "fulgurite average needs runs and a new folder: run=<run folder> run=<run folder> out=<new folder>."
        )
    if len(config.run) * len(config.checkpoints) < 2:
        raise RequestError(
            "fulgurite average needs two members or more; add run=<run folder>, or several checkpoints: "
            "checkpoints=step-100,step-200."
        )
    for run in config.run:
        check_run_folder(run, "run")
    ema = config.weights is AverageWeights.ema
    if ema and len(config.run) > 1:
        raise RequestError(
            "weights=ema is for the checkpoints of one run, which have an order; use weights=uniform for several runs."
        )
    if config.decay is not None and not ema:
        raise RequestError("decay={decay} is for weights=ema; add weights=ema, or leave it out.", decay=config.decay)
    return allowed, config, check_new_folder(config.out)
