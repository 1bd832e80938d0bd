"""How many trials a search makes, how it draws them, when it ends one early, and where it keeps what it knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fulgurite.config.confidence import Sure
from fulgurite.config.described import DescribedEnum
from fulgurite.config.frozen import Freezable
from fulgurite.config.schema import Empty, at_least, knob


class Sampler(DescribedEnum):
    """How the values of a trial are drawn."""

    tpe = "tpe", "Draws near the values of the best trials so far."
    random = "random", "Draws each trial at random from the ranges."


class Pruner(DescribedEnum):
    """What ends a bad trial while it runs."""

    median = "median", "Ends a trial that is worse than the median of the others at the same step."
    hyperband = "hyperband", "Runs many trials for a short time and the best of them longer."
    none = "none", "Every trial runs to its end."


class Goal(DescribedEnum):
    """Whether less or more of the metric is better."""

    minimize = "minimize", "The lowest value of sweep.metric is the best."
    maximize = "maximize", "The highest value of sweep.metric is the best."


@dataclass(slots=True)
class Sweep(Freezable):
    """A search, `fulgurite train -m +sweep=sft_lora`; the same command goes on with one that was stopped."""

    room: ClassVar[str] = "sweep"

    knobs: list[str] = knob(
        [], "The knobs that are searched, each over its usual values.", source="Ours: the declarations' `usual`",
        advice="Few: four knobs need about 30 trials. A range of your own goes on the command line: "
        "'optim.lr=interval(1e-5,1e-3)'.",
        interacts={"sweep.trials": "each knob more wants more of them"},
    )
    trials: int = knob(
        30, "How many trials the study has in all, those that failed included.",
        source="Bergstra and Bengio, https://jmlr.org/papers/v13/bergstra12a.html: "
        "60 random trials reach the best 5 % with 95 % chance",
        bounds=at_least(1), usual=(10, 30, 60),
        advice="10 for the rate alone, 30 for four or five knobs. Raise it to go on with a study.",
        sure=Sure.paper,
        raise_when="To search more than five knobs, or to go on with a study that ended while it still got better.",
        lower_when="To search the rate alone: 10.",
        interacts={
            "sweep.knobs": "the more are searched, the more trials it takes", "sweep.pruner": "ends the bad ones early",
        },
        time="In proportion; trials that are ended early take less.",
    )
    at_once: int = knob(
        1, "How many trials are handed to the launcher together.", source="Ours", bounds=at_least(1),
        usual=(1, 2, 4, 8),
        advice="As many as the launcher runs at a time (hydra/launcher=joblib, submitit). "
        "Trials drawn together are blind to each other.",
        raise_when="When the launcher runs several trials at a time: as many.",
        lower_when="When trials would share one device: 1.",
        interacts={"sweep.sampler": "tpe knows no result of trials that are drawn together"},
        memory="Each trial that runs is a run of its own.",
        misread="It makes nothing parallel by itself: the launcher does.",
    )
    sampler: Sampler = knob(
        Sampler.tpe, "How values are drawn: tpe learns from the trials before, random does not.",
        source="TPE: https://arxiv.org/abs/2304.11127; Optuna's default",
        advice="random where many machines run at once; else tpe.",
        interacts={"sweep.at_once": "trials drawn together are blind to each other"},
    )
    pruner: Pruner = knob(
        Pruner.median,
        "What ends a bad trial early: worse than the median of the others at the same evaluation, "
        "or hyperband's halving.",
        source="Optuna's MedianPruner; Hyperband, https://arxiv.org/abs/1603.06560",
        advice="none where rates with a late fall are searched: schedules that fall late look bad early.",
        interacts={"trainer.eval_every": "a trial can be ended only at an evaluation"},
        time="A trial that is ended early saves the rest of its run.",
    )
    metric: str = knob(
        "val/loss", "The number of an evaluation that is searched for; a trial's value is the best of its evaluations.",
        source="Ours: the best checkpoint is the one that is exported",
        advice="val/accuracy where a knob that is searched (stage.beta) scales the loss itself.",
        interacts={"sweep.goal": "must fit it: more accuracy is better, less loss"},
    )
    goal: Goal = knob(
        Goal.minimize, "Whether less or more of it is better.", source="W&B's metric.goal",
        advice="minimize for losses.",
        sure=Sure.practice, interacts={"sweep.metric": "what is meant"},
    )
    seed: int = knob(
        42, "The seed of the draws. The trials themselves all train with the run's own seed.", source="Ours",
        bounds=at_least(0),
        usual=(1, 2, 3), advice="Another for a second, independent search.",
        leave="No seed is better than another. Give another only for a second, independent search.",
        interacts={"seed": "what each trial itself trains with"},
    )
    keep: int = knob(
        1, "How many of the best trials keep their checkpoints; the others' are removed when they end.",
        source="Arithmetic: 30 trials of a full 135M model are 100 GB", bounds=at_least(1), usual=(1, 3),
        advice="3 to compare answers.",
        sure=Sure.ours, raise_when="To compare the answers of several trials: 3.",
        lower_when="When the disk is small: 1.",
        interacts={"trainer.keep_checkpoints": "how many checkpoints each of them keeps"},
        memory="Disk: each keeps the checkpoints of a whole run.",
    )
    storage: str | None = knob(
        None, "Where the study is kept: any URL that Optuna takes. Machines that share it share the study.",
        source="Optuna, RDBStorage", sure=Sure.practice,
        advice="sqlite:///shared/study.db on a shared disk, or a PostgreSQL URL without its password.",
        interacts={"sweep.study": "the study's name in it"},
        empty=Empty("study.db, an SQLite file in the sweep's folder"),
    )
    study: str | None = knob(
        None, "The study's name. A name that is there already is gone on with.", source="Optuna, create_study",
        sure=Sure.practice,
        advice="Give another to begin afresh.", empty=Empty("the space's name and a hash of the command's words"),
    )
    trial: int | None = knob(
        None, "Which trial of the study this run is; the search writes it.", source="Ours", bounds=at_least(0),
        advice="Leave it to the search.", empty=Empty("no trial"),
    )
