"""DP-SGD in a run: sums clipped gradients over the micro-batches of a step, adds noise once per step, and counts the
privacy spent.

Shapes: B rows of a micro-batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fulgurite.errors import ConfigError
from fulgurite.language.message import UserMessage, message
from fulgurite.privacy import config as c
from fulgurite.privacy.accountant import NOISE, Spell, build_generator, compute_epsilon, compute_rate
from fulgurite.privacy.clipping import compute_factors, compute_norms, sum_clipped
from fulgurite.privacy.per_sample_gradients import RowGradients, RowLosses

UNIT = "one example added or removed"


def nothing(config: c.NoPrivacy, *_: Any, **__: Any) -> None:
    """Returns None: no mechanism."""


def build(config: c.DpSgd, model: nn.Module, *, rows: int, batch_size: int, total_steps: int, secret: int) -> Mechanism:
    """Builds the mechanism for a model to which the method was applied. Raises ConfigError if the budget is too
    small."""
    if batch_size > rows:
        raise ConfigError(
            "trainer.global_batch_size={batch_size} is more than the {rows} examples from which privacy=dp_sgd draws "
            "a batch; lower it.",
            batch_size=batch_size, rows=rows,
        )
    # `config.resolve` fills both before a run starts.
    if config.delta is None or config.noise_multiplier is None:
        raise ConfigError("privacy.delta and privacy.noise_multiplier have no value; this is a bug in Fulgurite.")
    if config.delta >= 1 / rows:
        raise ConfigError(
            "privacy.delta={delta:g} is too large for {rows} examples: the guarantee could fail for a whole example. "
            "Use less than {most:.2g}.",
            delta=config.delta, rows=rows, most=1 / rows,
        )
    made = Mechanism(config, model, rows, batch_size, total_steps, secret)
    made.refuse_overspending(0)
    return made


class Mechanism:
    """Works between the backward pass and the optimizer. The optimizer then reads plain gradients and is not wrapped.

    Opacus' DPOptimizer replaces the optimizer for Lightning and the checkpoints, and draws noise from one generator
    whose state would have to be saved. Here the noise is a function of the secret and the step.
    """

    def __init__(
        self, config: c.DpSgd, model: nn.Module, rows: int, batch_size: int, total_steps: int, secret: int
    ) -> None:
        self.config, self.rows, self.batch_size, self.total_steps, self.secret = (
            config,
            rows,
            batch_size,
            total_steps,
            secret,
        )
        self.gradients = RowGradients(model)
        self.rate = compute_rate(batch_size, rows)
        self.noise, self.delta = float(config.noise_multiplier or 0.0), float(config.delta or 0.0)
        self.history: list[Spell] = []
        self.drawn = 0
        self._clipped: Tensor | int = 0
        # The sums of the current step, one per weight; None until a row was drawn.
        self._sums: list[Tensor] | None = None

    def prove(self, losses: RowLosses, compute: torch.dtype, vocabulary: int) -> None:
        """Raises ConfigError unless each row has a gradient of its own in this model."""
        self.gradients.prove(losses, compute, vocabulary)

    def absorb(self, rows: int) -> None:
        """Clips the gradient of each row and adds it to the sum of the step; called after a backward pass over the
        summed loss of `rows` rows."""
        # An empty micro-batch has a loss of 0 that depends on the weights: it leaves gradients of 0.
        if rows == 0:
            for weight in self.gradients.weights.values():
                weight.grad = None
            return
        found = self.gradients.take(rows)
        # The norm of a row is over all its weights together: clipping each weight alone would need more noise.
        lengths_B = compute_norms(found)
        scale_B = compute_factors(lengths_B, self.config.max_grad_norm)
        self.drawn += rows
        self._clipped = (lengths_B > self.config.max_grad_norm).sum() + self._clipped  # counted on the device
        # The sum over the micro-batches of a step; `finish` adds noise to it once.
        parts = [sum_clipped(g, scale_B) for g in found]
        self._sums = parts if self._sums is None else [s.add_(p) for s, p in zip(self._sums, parts, strict=True)]

    def finish(self, step: int) -> dict[str, float]:
        """Writes (sum + noise) / expected batch size to the `grad` of each weight, counts the step, and returns its
        metrics.

        The noise is plain floating point, as Opacus' own outside its secure mode (Mironov,
        https://doi.org/10.1145/2382196.2382264). A step that drew no row has noise alone and counts: skipping it
        would reveal that no row was drawn.
        """
        generator = build_generator(self.secret, NOISE, step)
        weights = list(self.gradients.weights.values())
        # Sensitivity: one row changes the sum by max_grad_norm at most.
        deviation = self.noise * self.config.max_grad_norm
        for n, weight in enumerate(weights):
            whole = torch.zeros_like(weight, dtype=torch.float32) if self._sums is None else self._sums[n]
            # The noise of a weight depends on the secret, the step and the order of the weights only.
            if deviation:
                drawn = torch.from_numpy(generator.standard_normal(weight.numel(), dtype="float32")).view(weight.shape)
                whole = whole + drawn.to(weight.device) * deviation
            # Divided by the expected number of rows: the number that was drawn is private.
            weight.grad = (whole / self.batch_size).to(weight.dtype)
        numbers = {
            "privacy/rows": float(self.drawn),
            "privacy/clipped": int(self._clipped) / self.drawn if self.drawn else 0.0,
        }
        self._sums, self.drawn, self._clipped = None, 0, 0
        self.count()
        return numbers

    # -- the account ------------------------------------------------------------------------------------------------

    def count(self) -> None:
        """Adds one step to the history."""
        now = (self.noise, self.rate)
        # Steps of equal noise and rate are one entry, which is also what the accountants take.
        if self.history and self.history[-1][:2] == now:
            self.history[-1] = (*now, self.history[-1][2] + 1)
        else:
            self.history.append((*now, 1))

    def epsilon(self) -> float:
        """Returns the epsilon spent by the steps so far."""
        return compute_epsilon(self.history, self.delta, self.config.accountant)

    def refuse_overspending(self, step: int) -> None:
        """Raises ConfigError if the steps from `step` to the end would spend more than the budget."""
        # The history of a resumed run may have other noise or another rate than the steps to come.
        ahead: Spell = (self.noise, self.rate, self.total_steps - step)
        spent = compute_epsilon([*self.history, ahead], self.delta, self.config.accountant)
        # Room for the tolerance of the search that derived the noise.
        if spent > self.config.epsilon * 1.0001:
            raise ConfigError(
                "privacy.noise_multiplier={noise:.4g} would spend epsilon {spent:.4g} in {steps} steps, more than "
                "privacy.epsilon={epsilon:g}; leave privacy.noise_multiplier empty in a new run, or raise "
                "privacy.epsilon.",
                noise=self.noise, spent=spent, steps=self.total_steps, epsilon=self.config.epsilon,
            )

    def get_state(self) -> dict[str, Any]:
        """Returns the state for a checkpoint: the history alone, because draws and noise are functions of the secret
        and the step."""
        return {"history": [list(spell) for spell in self.history]}

    def load(self, state: dict[str, Any]) -> None:
        """Continues the history of a checkpoint. Raises ConfigError if the remaining steps would overspend."""
        # As tuples again, because a list from JSON never equals the tuple that `count` compares with.
        self.history = [(float(noise), float(rate), int(steps)) for noise, rate, steps in state["history"]]
        self.refuse_overspending(sum(steps for *_, steps in self.history))

    def report(self) -> dict[str, Any]:
        """Returns the contents of privacy.json: the guarantee, what it covers, and how it was reached."""
        return {
            "epsilon": self.epsilon(),
            "delta": self.delta,
            "target_epsilon": self.config.epsilon,
            "noise_multiplier": self.noise,
            "max_grad_norm": self.config.max_grad_norm,
            "sampling_rate": self.rate,
            "rows": self.rows,
            "expected_batch_size": self.batch_size,
            "steps": sum(steps for *_, steps in self.history),
            "history": self.get_state()["history"],
            "accountant": str(self.config.accountant),
            "unit": UNIT,
            "sampling": "Poisson: each step draws each example independently",
            "seed_is_secret": self.config.noise_seed is None,
            "covers": "the weights of all checkpoints, and everything computed from them",
            "does_not_cover": (
                "logged losses, counts and lengths, the choice of the best checkpoint, validation examples, "
                "noise_seed, and attacks on the rounding of floating-point noise"
            ),
        }

    def describe(self) -> UserMessage:
        """Returns the guarantee as a sentence."""
        r = self.report()
        facts = {name: r[name] for name in ("epsilon", "delta", "steps", "accountant")}
        if r["seed_is_secret"]:
            return message(
                "Privacy: epsilon {epsilon:.3g} at delta {delta:.2g} for one example added or removed, after "
                "{steps:,} steps ({accountant}). This covers the weights; do not share the logged losses and the file "
                "noise_seed.",
                **facts,
            )
        return message(
            "Privacy: epsilon {epsilon:.3g} at delta {delta:.2g} for one example added or removed, after {steps:,} "
            "steps ({accountant}). This covers the weights; do not share the logged losses. privacy.noise_seed is set, "
            "so whoever reads config.yaml can remove the noise.",
            **facts,
        )
