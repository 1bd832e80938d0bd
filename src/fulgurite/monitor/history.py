"""What a rule reads: what the run is, the numbers of its steps, its evaluations and samples. Numbers only.

All of `History` is in the checkpoint, so that a resumed run reports what an uninterrupted one reports, at the same
step.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from fulgurite.config.losses import Loss, find_loss
from fulgurite.config.run import load_options
from fulgurite.config.schema import find_option

Row = dict[str, float]

KEPT = (
    "train/loss",
    "train/lr",
    "train/grad_norm",
    "train/clipped",
    "train/accuracy",
    "train/reward_chosen",
    "train/reward_rejected",
    "train/reward_margin",
    "train/logp_chosen",
    "train/ties",
    "train/unchanged",
)
FIRST, RECENT, UPDATES = 50, 100, 16


@dataclass(slots=True)
class About:
    """What is known before the first step."""

    stage: str
    loss: str = ""
    adapter: bool = True
    lr: float = 1e-4
    warmup: int = 0
    total: int = 1000
    batch_size: int = 16
    clip: float = 1.0
    """The norm that gradients are clipped to, 0 for none."""
    private: bool = False
    vocab: int = 50_000
    beta: float = 0.1
    paired: bool = True
    """Whether `train/reward_chosen` is beta times the whole answer's log ratio to a reference."""
    margins: bool = False
    """Whether pairs have margins of their own."""
    new_head: bool = True
    """Whether a reward model's head is zero before the first step, so that the first loss is ln 2; an existing one
    goes on with its own."""
    lowest_lr: float = 0.0
    highest_lr: float = 1.0
    """The ends of the usual range of `lr` in this run."""
    exact: bool = False
    """Whether the run computes in fp32."""
    nearest: bool = False
    """Whether steps are rounded to the nearest bf16 number."""
    alone: bool = True
    """Whether the optimizer steps each parameter by itself, so that there are other roundings."""
    multiplied: bool = False
    """Whether what begins at zero takes a multiple of the rate (LoRA+), so that its first steps are as large as the
    weights."""
    rollout_steps: int = 1
    answer_tokens: int | None = None
    """Nine of ten answers trained on are no longer; None if that is not known."""
    max_new_tokens: int = 0

    @property
    def kind(self) -> Any:
        """What the stage declares."""
        load_options()
        return find_option("stage", self.stage)

    @property
    def declared_loss(self) -> Loss:
        """What the loss declares."""
        return find_loss(self.kind.losses, self.loss)

    @property
    def pairs(self) -> bool:
        """Whether a policy learns from pairs of answers."""
        return bool(self.kind.refers and self.kind.sides == 2)


@dataclass(slots=True)
class Update:
    """The share by which a step changed the trained weights."""

    step: int
    ratio: float
    lr: float


@dataclass(slots=True)
class Evaluation:
    """The validation loss after a step, and the mean training loss since the evaluation before."""

    step: int
    val: float
    train: float


@dataclass(slots=True)
class History:
    """The first steps and the newest, the newest update ratios, every evaluation. `begun` is the first step seen."""

    begun: int | None = None
    first: list[Row] = field(default_factory=list)
    recent: deque[Row] = field(default_factory=lambda: deque(maxlen=RECENT))
    updates: deque[Update] = field(default_factory=lambda: deque(maxlen=UPDATES))
    first_update: int | None = None
    evaluations: list[Evaluation] = field(default_factory=list)
    since: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """Sum and count of the losses since the last evaluation."""

    def add(self, step: int, record: Mapping[str, float], labels: int) -> None:
        """Adds the numbers of one optimizer step."""
        row: Row = {"step": step, "labels": labels, **{name: float(record[name]) for name in KEPT if name in record}}
        if self.begun is None:
            self.begun = step
        if len(self.first) < FIRST:
            self.first.append(row)
        self.recent.append(row)
        if "train/loss" in row:
            self.since = [self.since[0] + row["train/loss"], self.since[1] + 1]
        if "train/update_ratio" in record:
            self.first_update = self.first_update or step
            self.updates.append(Update(step, float(record["train/update_ratio"]), float(record.get("train/lr", 0.0))))

    def record_evaluation(self, step: int, val: float) -> None:
        """Adds an evaluation after `step`."""
        self.evaluations.append(Evaluation(step, val, self.since[0] / self.since[1] if self.since[1] else math.nan))
        self.since = [0.0, 0.0]

    @property
    def whole(self) -> bool:
        """Whether it was there from the first step; a checkpoint of an earlier version may have no history."""
        return self.begun == 1

    @property
    def last(self) -> Row:
        """The numbers of the newest step."""
        return self.recent[-1]

    @property
    def step(self) -> int:
        """The newest step's number, 0 before the first."""
        return int(self.recent[-1]["step"]) if self.recent else 0

    def get_newest(self, count: int) -> list[Row]:
        """Returns the newest `count` steps, or as many as there are."""
        return list(self.recent)[-count:]

    def get_state(self) -> dict[str, Any]:
        """Returns everything as plain values."""
        # asdict copies a deque as it is, with its entries: they are converted here.
        found = asdict(self)
        return found | {"recent": list(self.recent), "updates": [asdict(u) for u in self.updates]}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> History:
        """Makes the history that `get_state` returned."""
        return cls(
            **{
                **state,
                "recent": deque(state["recent"], RECENT),
                "updates": deque((Update(**u) for u in state["updates"]), UPDATES),
                "evaluations": [Evaluation(**e) for e in state["evaluations"]],
            }
        )


@dataclass(slots=True)
class TrainingFacts:
    """All that a rule reads. `samples` are rows of samples.jsonl; seconds are those of the newest steps."""

    about: About
    history: History = field(default_factory=History)
    samples: Sequence[Mapping[str, Any]] = ()
    waited: float = 0.0
    computed: float = 0.0
    timed: int = 0
    """Optimizer steps in the seconds above."""


def get_column(rows: Iterable[Row], name: str) -> list[float]:
    """Returns the values of one number, of the rows that have it."""
    return [row[name] for row in rows if name in row]
