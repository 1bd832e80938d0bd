"""Limit on what the weights reveal about a single training example: none, or differential privacy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fulgurite.config.described import DescribedEnum
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
from fulgurite.language.message import UserMessage, message

if TYPE_CHECKING:
    from fulgurite.config.facts import Facts
    from fulgurite.config.run import RunConfig

MOST_PRV = 100.0
"""The largest epsilon of the PRV accountant. Its grid grows with epsilon: at 10,000 one evaluation did not finish
within minutes (measured)."""


class Accountant(DescribedEnum):
    """How the epsilons of the steps are summed."""

    rdp = "rdp", "Rényi differential privacy: fast, a slightly larger epsilon."
    prv = "prv", "Privacy random variables: a tighter epsilon, slower to compute."


@dataclass(slots=True)
class Privacy(Option):
    """What every option has."""

    by_row: ClassVar[bool] = False
    """Whether the gradient of each example is clipped separately and noise is added."""


@option("privacy", "none")
@dataclass(slots=True)
class NoPrivacy(Privacy):
    """No noise: the model may repeat its training data. For data that anybody may read."""

    builds: ClassVar[str] = "fulgurite.privacy.mechanism:nothing"
    costs: ClassVar[str] = "Nothing."


def _delta(run: RunConfig, facts: Facts) -> Derived:
    from fulgurite.privacy.accountant import compute_delta

    delta = compute_delta(facts.rows)
    return Derived(
        delta,
        message(
            "{rows} examples to the power of -1.2, which is below 1/{rows}: the guarantee may fail for less than one "
            "example",
            rows=facts.rows,
        ),
    )


def _noise_multiplier(run: RunConfig, facts: Facts) -> Derived:
    from fulgurite.privacy.accountant import compute_rate, solve_noise

    # The effective batch size is the expected number of examples in a step.
    p, rate = run.privacy, compute_rate(run.trainer.global_batch_size, facts.rows)
    noise = solve_noise(p.epsilon, p.delta, rate, facts.total_steps, p.accountant)
    return Derived(
        noise,
        message(
            "with this noise, {steps} steps that draw each example with probability {rate:.4g} spend epsilon "
            "{epsilon:g} at delta {delta:.2g} ({accountant})",
            steps=facts.total_steps, rate=rate, epsilon=p.epsilon, delta=p.delta, accountant=p.accountant,
        ),
    )


@option("privacy", "dp_sgd")
@dataclass(slots=True)
class DpSgd(Privacy):
    """Differential privacy: limits what the weights reveal about any single training example (DP-SGD). For data
    about people.

    The gradient of each example is clipped separately, then Gaussian noise is added to the sum; an accountant computes
    the privacy loss of all steps. The loss of an example is the mean over its own labels. The guarantee covers the
    weights, not the logs. DPO is something else: Direct Preference Optimization, although one article calls it
    differential privacy optimization.
    """

    builds: ClassVar[str] = "fulgurite.privacy.mechanism:build"
    by_row: ClassVar[bool] = True
    costs: ClassVar[str] = "Time, memory for one gradient per example, and a higher loss."
    misread: ClassVar[str] = "Differential privacy is not DPO. stage=dpo learns preferences and protects no data."

    epsilon: float = knob(
        8.0,
        "Privacy budget: how much the whole run may reveal about any single example. Smaller is more private.",
        source=(
            "TensorFlow Privacy's guide: below 10 is a reasonable guarantee, below 1 a strong one (verified); 8 is ours"
        ),
        bounds=above(0),
        usual=between(1, 10),
        advice="With more examples the same epsilon costs less quality.",
        raise_when="When the model learns nothing and a weaker guarantee is acceptable.",
        lower_when="When examples are about somebody's health or finances.",
        interacts={
            "privacy.noise_multiplier": "if empty, it is computed from epsilon",
            "trainer.epochs": "more epochs need more noise",
            "trainer.global_batch_size": "a large batch lowers the cost in quality",
        },
        misread="It is a property of the training, not of the data: the data are not anonymised.",
    )
    delta: float | None = knob(
        None,
        "Probability that the guarantee of epsilon fails.",
        source="NVIDIA Safe Synthesizer rows^-1.2; TensorFlow Privacy and Opacus: below 1/rows (verified)",
        bounds=Range(0, 1, open_low=True, open_high=True),
        advice="Leave it empty.",
        empty=Empty("the number of examples to the power of -1.2", _delta, "steps"),
        raise_when="Never to 1 / number of examples or above.",
        lower_when="When the guarantee must hold in the worst case.",
        interacts={"privacy.epsilon": "the two form one guarantee"},
    )
    noise_multiplier: float | None = knob(
        None,
        "Standard deviation of the noise in the summed gradient of each step, as a multiple of the clipping norm.",
        source=(
            "DP-SGD, Abadi et al., https://arxiv.org/abs/1607.00133; TensorFlow Privacy: 0.3 to 0.5 often gives "
            "epsilon below 10"
        ),
        bounds=above(0),
        usual=between(0.1, 2),
        advice="Leave it empty and set privacy.epsilon. Larger batches tolerate more noise.",
        empty=Empty(
            "computed from epsilon, delta, the sampling probability of an example, and the steps",
            _noise_multiplier,
            "steps",
        ),
        raise_when="For a smaller epsilon.",
        lower_when="When the model learns nothing.",
        interacts={
            "privacy.epsilon": "decreases as the noise increases",
            "trainer.global_batch_size": "more examples share the noise of one step",
        },
    )
    max_grad_norm: float = knob(
        0.1,
        "Clipping norm of the gradient of each example. Replaces trainer.max_grad_norm, which is then off.",
        source=(
            "README of Li et al., https://arxiv.org/abs/2110.05679, 0.1 for language models; Opacus' example 1.0 "
            "(verified)"
        ),
        bounds=above(0),
        usual=between(0.1, 1),
        advice="Leave it: the noise is proportional to it, so small norms learn best.",
        raise_when="When nearly every example is clipped and the loss falls slowly.",
        lower_when="When the noise hides the gradient and the loss does not fall.",
        interacts={
            "trainer.max_grad_norm": "is off; only one of the two applies",
            "optim.lr": "a smaller norm allows a larger learning rate",
        },
        memory="One gradient of the trained weights for each example of a micro-batch.",
        time="Longer than a plain step: each example has its own gradient.",
    )
    accountant: Accountant = knob(
        Accountant.rdp, "How Opacus sums the epsilons of the steps. Both give upper bounds; prv is the tighter one.",
        source=(
            "Rényi: Mironov et al., https://arxiv.org/abs/1908.10530; PRV: Gopi et al., "
            "https://arxiv.org/abs/2106.02848"
        ),
        advice=(
            "prv needs 6 to 10 % less noise for the same epsilon (measured), but takes a tenth of a second for each "
            "logged step."
        ),
    )
    noise_seed: int | None = knob(
        None,
        "Seed of the noise and of the examples that a step draws. Whoever knows it can remove the noise.",
        source="Ours: a seed in config.yaml would be published with the run",
        bounds=at_least(0),
        advice="Leave it empty except in tests: a run that can be repeated exactly is not private.",
        empty=Empty(
            "128 random bits of the operating system, stored in the file noise_seed of the run folder so that the run "
            "can be resumed: never publish that file"
        ),
        leave="With a known seed anybody can remove the noise.",
    )

    def find_refusal(self, run: RunConfig) -> UserMessage | None:
        """Returns why this run cannot be private, with the remedy, or None."""
        found = [*self._check_examples(run), *self._check_options(run), *self._check_trainer(run)]
        return next((sentence for refused, sentence in found if refused), None)

    def _check_examples(self, run: RunConfig) -> list[tuple[bool, UserMessage]]:
        data = run.data
        return [
            (
                not run.stage.loss_by_row,
                message(
                    "privacy=dp_sgd supports {stages}, but stage={stage} has no loss of a single example; use "
                    "stage=sft.",
                    stages=_join_options("stage", "loss_by_row"), stage=run.stage.name,
                ),
            ),
            (
                not has_declared(run.method, "private"),
                message(
                    "privacy=dp_sgd supports {methods}; the gradients of method={method} per example are not "
                    "verified. Use method=lora.",
                    methods=_join_options("method", "private"), method=run.method.name,
                ),
            ),
            (
                str(data.packing) == "best_fit",
                message(
                    "privacy=dp_sgd protects one example, but data.packing=best_fit joins several examples into one; "
                    "use data.packing=none."
                ),
            ),
            (
                not data.shuffle,
                message(
                    "privacy=dp_sgd draws its examples at random, so data.shuffle=false is not possible; leave "
                    "data.shuffle true."
                ),
            ),
            (
                any(w > 1 for w in getattr(data, "weights", ())),
                message(
                    "privacy=dp_sgd protects one example, but data.weights above 1 repeat examples; use weights of at "
                    "most 1."
                ),
            ),
        ]

    def _check_options(self, run: RunConfig) -> list[tuple[bool, UserMessage]]:
        scheduler = run.scheduler
        return [
            (
                run.precision.scales_loss,
                message(
                    "privacy=dp_sgd clips unscaled gradients, but precision={precision} scales them; use "
                    "precision=bf16 or precision=fp32.",
                    precision=run.precision.name,
                ),
            ),
            (
                getattr(scheduler, "monitors", False),
                message(
                    "privacy=dp_sgd adds no noise to the validation loss, which scheduler={scheduler} follows; use "
                    "scheduler=cosine.",
                    scheduler=scheduler.name,
                ),
            ),
            (
                self.accountant is Accountant.prv and self.epsilon > MOST_PRV,
                message(
                    "privacy=dp_sgd supports accountant=prv up to epsilon {most:g}, but privacy.epsilon is "
                    "{epsilon:g}; use privacy.accountant=rdp.",
                    most=MOST_PRV, epsilon=self.epsilon,
                ),
            ),
        ]

    def _check_trainer(self, run: RunConfig) -> list[tuple[bool, UserMessage]]:
        trainer = run.trainer
        return [
            (
                run.world_size > 1,
                message(
                    "privacy=dp_sgd runs in one process, but this run has {count}; use trainer.devices=1.",
                    count=run.world_size,
                ),
            ),
            (
                trainer.early_stopping_patience is not None,
                message(
                    "privacy=dp_sgd adds no noise to the validation loss, which trainer.early_stopping_patience "
                    "follows; leave trainer.early_stopping_patience out."
                ),
            ),
            (
                trainer.gradient_checkpointing,
                message(
                    "privacy=dp_sgd needs one forward pass per layer, but trainer.gradient_checkpointing runs it "
                    "twice; set trainer.gradient_checkpointing=false."
                ),
            ),
            (
                trainer.compile,
                message(
                    "privacy=dp_sgd needs hooks on each layer, which trainer.compile removes; set "
                    "trainer.compile=false."
                ),
            ),
        ]


def _join_options(group: str, declaration: str) -> str:
    """Returns the options of a group that declare `declaration`, as `stage=pt, stage=sft`."""
    return ", ".join(
        f"{group}={name}"
        for name, cls in list_options(group).items()
        if has_declared(cls, declaration) or (declaration == "loss_by_row" and getattr(cls, declaration, False))
    )
