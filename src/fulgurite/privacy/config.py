"""Whether what is learned may tell of a single row: not at all limited, or limited by differential privacy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from fulgurite.config.schema import (
    Derived,
    Empty,
    Option,
    Range,
    above,
    at_least,
    between,
    has_declared,
    knob,
    list_options,
    option,
)

if TYPE_CHECKING:
    from fulgurite.config.facts import Facts
    from fulgurite.config.run import RunConfig

"""Whose trained weights all lie in layers that Opacus gives a gradient for each row of; each run proves it on its
own model besides."""
MOST_PRV = 100.0
"""The PRV accountant's grid grows with epsilon: at 10,000 one evaluation did not end in minutes (measured)."""


class Accountant(StrEnum):
    """How the epsilons of the steps are added up."""

    rdp = "rdp"
    prv = "prv"


@dataclass(slots=True)
class Privacy(Option):
    """What every choice has."""

    by_row: ClassVar[bool] = False
    """Whether each row's gradient is clipped for itself and noise is added."""


@option("privacy", "none")
@dataclass(slots=True)
class NoPrivacy(Privacy):
    """No noise: the model may repeat what it was trained on. For data that anybody may read."""

    builds: ClassVar[str] = "fulgurite.privacy.mechanism:nothing"
    costs: ClassVar[str] = "Nothing."


def _delta(run: RunConfig, facts: Facts) -> Derived:
    from fulgurite.privacy.accountant import compute_delta

    delta = compute_delta(facts.rows)
    return Derived(
        delta,
        f"{facts.rows} rows to the power of -1.2, below one in {facts.rows}: the promise may fail for less than one "
        f"row",
    )


def _noise_multiplier(run: RunConfig, facts: Facts) -> Derived:
    from fulgurite.privacy.accountant import compute_rate, solve_noise

    p, rate = run.privacy, compute_rate(run.trainer.global_batch_size, facts.rows)
    noise = solve_noise(p.epsilon, p.delta, rate, facts.total_steps, p.accountant)
    return Derived(
        noise,
        f"what {facts.total_steps} steps need, each row drawn at a rate of {rate:.4g}, to spend epsilon {p.epsilon:g} "
        f"at delta {p.delta:.2g} ({p.accountant})",
    )


@option("privacy", "dp_sgd")
@dataclass(slots=True)
class DpSgd(Privacy):
    """Differential privacy: optimization that limits what the weights tell about any one row (DP-SGD). For data
    about people.

    Each row's gradient is clipped for itself, and Gaussian noise hides what is left of it; an accountant adds up
    what the steps give away. A row's loss is the mean over its own labels. The promise covers the weights, not the
    logs. DPO is another thing: Direct Preference Optimization, although an article calls it differential privacy
    optimization.
    """

    builds: ClassVar[str] = "fulgurite.privacy.mechanism:build"
    by_row: ClassVar[bool] = True
    costs: ClassVar[str] = "Time, memory for a gradient a row, and some of what could be learned."
    misread: ClassVar[str] = "Differential privacy is not DPO. stage=dpo learns preferences and protects nobody's data."

    epsilon: float = knob(
        8.0,
        "The budget: how much the whole run may give away about any one row. Smaller is more private.",
        source="TensorFlow Privacy's guide: below 10 is a sane promise, below 1 a strict one (verified); 8 is ours",
        bounds=above(0),
        usual=between(1, 10),
        advice="Lower it where a row tells of somebody's health or money; many rows make it cheap.",
        raise_when="When the model learns nothing and the promise may be weaker.",
        lower_when="Where a row tells of somebody's health or money.",
        interacts={
            "privacy.noise_multiplier": "empty, it is solved for this",
            "trainer.epochs": "more passes need more noise",
            "trainer.global_batch_size": "large batches make it cheap",
        },
        misread="It is a property of the training, not of the data: nothing is anonymised.",
    )
    delta: float | None = knob(
        None,
        "The chance that the promise of epsilon fails.",
        source="NVIDIA Safe Synthesizer rows^-1.2; TensorFlow Privacy and Opacus: below 1/rows (verified)",
        bounds=Range(0, 1, open_low=True, open_high=True),
        advice="Leave it; it must stay below one in the number of rows.",
        empty=Empty("the number of rows to the power of -1.2", _delta, "steps"),
        raise_when="Never above one in the number of rows.",
        lower_when="When the promise must hold for the worst case.",
        interacts={"privacy.epsilon": "the two are one promise"},
    )
    noise_multiplier: float | None = knob(
        None,
        "The noise against the signal: its standard deviation in each step's summed gradient, in clipping norms.",
        source=(
            "DP-SGD, Abadi et al., https://arxiv.org/abs/1607.00133; TensorFlow Privacy: 0.3 to 0.5 often gives "
            "epsilon below 10"
        ),
        bounds=above(0),
        usual=between(0.1, 2),
        advice="Leave it: epsilon is what is meant. Larger batches bear more noise.",
        empty=Empty(
            "solved for epsilon, delta, the rate at which rows are drawn, and the steps", _noise_multiplier, "steps"
        ),
        raise_when="For a smaller epsilon.",
        lower_when="When the model learns nothing.",
        interacts={
            "privacy.epsilon": "follows from it",
            "trainer.global_batch_size": "more rows share one step's noise",
        },
    )
    max_grad_norm: float = knob(
        0.1,
        "Each row's gradient is scaled down to this length. It takes the place of trainer.max_grad_norm, which is "
        "then off.",
        source=(
            "README of Li et al., https://arxiv.org/abs/2110.05679, 0.1 for language models; Opacus' example 1.0 "
            "(verified)"
        ),
        bounds=above(0),
        usual=between(0.1, 1),
        advice="Leave it: the noise grows with it, so that small norms learn best.",
        raise_when="When nearly every row is clipped and learning is slow.",
        lower_when="When noise drowns what is learned.",
        interacts={"trainer.max_grad_norm": "is off: never both", "optim.lr": "a smaller norm bears a larger rate"},
        memory="A gradient of the trained weights for each row of a micro-batch.",
        time="Longer than a plain step: each row has a gradient of its own.",
    )
    accountant: Accountant = knob(
        Accountant.rdp, "How Opacus adds up the steps' epsilons. Both are upper bounds, and prv is the tighter one.",
        source=(
            "Rényi: Mironov et al., https://arxiv.org/abs/1908.10530; PRV: Gopi et al., "
            "https://arxiv.org/abs/2106.02848"
        ),
        advice=(
            "prv needs 6 to 10 % less noise for the same epsilon (measured), and a tenth of a second for each logged "
            "step."
        ),
    )
    noise_seed: int | None = knob(
        None,
        "The seed of the noise and of which rows a step draws. Whoever knows it can take the noise off again.",
        source="Ours: a seed in config.yaml would be published with the run",
        bounds=at_least(0),
        advice="Leave it empty but in tests: a run that is to be repeated exactly is not private.",
        empty=Empty(
            "128 bits of the operating system's, kept in the run folder's noise_seed for a resumed run: never publish "
            "that file"
        ),
        leave="A known seed lets anybody take the noise off.",
    )

    def find_refusal(self, run: RunConfig) -> str | None:
        """Why this run cannot be private, with the remedy, or None."""
        data, trainer = run.data, run.trainer
        said = [
            (
                not run.stage.loss_by_row,
                f"trains stages {_those('stage', 'loss_by_row')}, and stage={run.stage.name} has no loss of a single "
                f"row; take stage=sft.",
            ),
            (
                not has_declared(run.method, "private"),
                f"trains methods {_those('method', 'private')}, and method={run.method.name} is not proven row by row; "
                f"take method=lora.",
            ),
            (
                str(data.packing) == "best_fit",
                "protects one row, and data.packing=best_fit puts several examples into one; take data.packing=none.",
            ),
            (
                not data.shuffle,
                "draws its rows at random, so data.shuffle=false cannot be kept; leave data.shuffle true.",
            ),
            (
                any(w > 1 for w in getattr(data, "weights", ())),
                "protects one row, and data.weights above 1 make several of one example; give weights of at most 1.",
            ),
            (run.world_size > 1, f"runs in one process, and this run has {run.world_size}; take trainer.devices=1."),
            (
                run.precision.scales_loss,
                f"clips true gradients, and precision={run.precision.name} scales them; take precision=bf16 or fp32.",
            ),
            (
                getattr(run.scheduler, "monitors", False),
                f"adds no noise to the validation loss, which scheduler={run.scheduler.name} follows; take "
                f"scheduler=cosine.",
            ),
            (
                trainer.early_stopping_patience is not None,
                "adds no noise to the validation loss, which trainer.early_stopping_patience follows; leave "
                "trainer.early_stopping_patience out.",
            ),
            (
                trainer.gradient_checkpointing,
                "listens to each layer once, and trainer.gradient_checkpointing calls it twice; turn it off.",
            ),
            (trainer.compile, "listens to each layer, and trainer.compile leaves none to listen to; turn it off."),
            (
                self.accountant is Accountant.prv and self.epsilon > MOST_PRV,
                f"counts with accountant=prv up to epsilon {MOST_PRV:g}, not {self.epsilon:g}; take "
                f"privacy.accountant=rdp.",
            ),
        ]
        return next((f"privacy=dp_sgd {why}" for wrong, why in said if wrong), None)


def _those(group: str, what: str) -> str:
    """The options of a group that declare `what`, as a list in words."""
    names = [
        name
        for name, cls in list_options(group).items()
        if has_declared(cls, what) or (what == "loss_by_row" and getattr(cls, what, False))
    ]
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
