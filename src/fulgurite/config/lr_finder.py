"""The range test `fulgurite train +find=lr`: from which rate to which, in how many steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fulgurite.config.confidence import Sure
from fulgurite.config.frozen import Freezable
from fulgurite.config.schema import Empty, above, between, knob


@dataclass(slots=True)
class LrFinder(Freezable):
    """A test that trains with a growing rate and keeps nothing of what it trained, `fulgurite train +find=lr`."""

    room: ClassVar[str] = "lr_finder"

    enabled: bool = knob(
        False, "Whether the run is a learning rate range test in place of a training.",
        source="Smith, https://arxiv.org/abs/1506.01186",
        advice="Write +find=lr beside the words of the run that is meant.",
    )
    steps: int = knob(
        60, "Number of optimizer steps between the lowest rate and the highest.",
        source="fastai's lr_find 100; 60 is ours, for CPUs",
        bounds=between(20, 10_000), usual=(60, 100), advice="100 where the curve is ragged.",
        sure=Sure.ours, raise_when="When the curve is ragged: 100.",
        lower_when="When a step takes long and the curve is smooth.",
        interacts={"trainer.global_batch_size": "a small one makes the curve ragged"},
        time="In proportion; it ends early where the loss diverges.",
    )
    min_lr: float | None = knob(
        None, "The rate that the test begins with.", source="Ours", bounds=above(0, 1), advice="Leave it.",
        interacts={"optim.lr": "what it is a thousandth of"},
        empty=Empty("a thousandth of optim.lr"),
    )
    max_lr: float | None = knob(
        None, "The rate that the test ends with, if the loss bears it.", source="Ours", bounds=above(0, 100),
        advice="Leave it.",
        interacts={"optim.lr": "what it is a thousand times of"},
        empty=Empty("a thousand times optim.lr, at most 10"),
    )
