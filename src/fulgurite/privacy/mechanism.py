"""DP-SGD in a run: sums clipped gradients over a step's micro-batches, adds the noise once a step, and keeps the
account.

Shapes: B rows of a micro-batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fulgurite.errors import ConfigError
from fulgurite.privacy import config as c
from fulgurite.privacy.accountant import NOISE, Spell, build_generator, compute_epsilon, compute_rate
from fulgurite.privacy.clipping import compute_factors, compute_norms, sum_clipped
from fulgurite.privacy.per_sample_gradients import RowGradients, RowLosses

UNIT = "one row, more or less"


def nothing(config: c.NoPrivacy, *_: Any, **__: Any) -> None:
    """No mechanism."""


def build(config: c.DpSgd, model: nn.Module, *, rows: int, batch_size: int, total_steps: int, secret: int) -> Mechanism:
    """The mechanism over a model whose method is applied. Raises ConfigError where the budget cannot be kept."""
    if batch_size > rows:
        raise ConfigError(f"trainer.global_batch_size={batch_size} is more than the {rows} rows that privacy=dp_sgd "
            f"draws it from; lower it.")
    if config.delta is None or config.noise_multiplier is None:
        raise ConfigError("privacy.delta and privacy.noise_multiplier are not filled; this is a fault of ours.")
    if config.delta >= 1 / rows:
        raise ConfigError(
            f"privacy.delta={config.delta:g} lets the promise fail for a whole row of {rows}; take less than "
            f"{1 / rows:.2g}."
        )
    made = Mechanism(config, model, rows, batch_size, total_steps, secret)
    made.refuse_overspending(0)
    return made


class Mechanism:
    """Between a backward pass and the optimizer. The optimizer then sees plain gradients, and needs no wrapping.

    Opacus' DPOptimizer was looked at: it takes the optimizer's place before Lightning and the checkpoints, draws its
    noise from one generator whose state would have to be saved, and leaves out nothing that these lines do.
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
        self.drawn = self.clipped = 0
        self._sums: list[Tensor] | None = None

    def prove(self, losses: RowLosses, compute: torch.dtype, vocabulary: int) -> None:
        """Raise ConfigError unless this model's rows have gradients of their own."""
        self.gradients.prove(losses, compute, vocabulary)

    def absorb(self, rows: int) -> None:
        """After a backward pass over the summed loss of `rows` rows: clip each row's gradient and add it to the
        step's sum."""
        if rows == 0:  # a process's empty micro-batch has touched the weights by a zero
            for weight in self.gradients.weights.values():
                weight.grad = None
            return
        found = self.gradients.take(rows)
        lengths_B = compute_norms(found)
        scale_B = compute_factors(lengths_B, self.config.max_grad_norm)
        self.drawn += rows
        self.clipped += int((lengths_B > self.config.max_grad_norm).sum())
        parts = [sum_clipped(g, scale_B) for g in found]
        self._sums = parts if self._sums is None else [s.add_(p) for s, p in zip(self._sums, parts, strict=True)]

    def finish(self, step: int) -> dict[str, float]:
        """Put (sum + noise) / expected batch size into each weight's `grad`, count the step, and return its numbers.

        The noise is plain floating point, as Opacus' own outside its secure mode (Mironov,
        https://doi.org/10.1145/2382196.2382264). A step that drew no row is noise alone, and counts: to leave it out
        would tell that nobody was drawn.
        """
        generator = build_generator(self.secret, NOISE, step)
        weights = list(self.gradients.weights.values())
        deviation = self.noise * self.config.max_grad_norm
        for n, weight in enumerate(weights):
            whole = torch.zeros_like(weight, dtype=torch.float32) if self._sums is None else self._sums[n]
            if deviation:
                drawn = torch.from_numpy(generator.standard_normal(weight.numel(), dtype="float32")).view(weight.shape)
                whole = whole + drawn.to(weight.device) * deviation
            weight.grad = (whole / self.batch_size).to(weight.dtype)
        numbers = {
            "privacy/rows": float(self.drawn),
            "privacy/clipped": self.clipped / self.drawn if self.drawn else 0.0,
        }
        self._sums, self.drawn, self.clipped = None, 0, 0
        self.count()
        return numbers

    # -- the account ------------------------------------------------------------------------------------------------

    def count(self) -> None:
        """One step more."""
        now = (self.noise, self.rate)
        if self.history and self.history[-1][:2] == now:
            self.history[-1] = (*now, self.history[-1][2] + 1)
        else:
            self.history.append((*now, 1))

    def epsilon(self) -> float:
        """What the steps taken so far have spent."""
        return compute_epsilon(self.history, self.delta, self.config.accountant)

    def refuse_overspending(self, step: int) -> None:
        """Raise ConfigError where the steps from `step` to the end would spend more than the budget."""
        ahead: Spell = (self.noise, self.rate, self.total_steps - step)
        spent = compute_epsilon([*self.history, ahead], self.delta, self.config.accountant)
        if spent > self.config.epsilon * 1.0001:
            raise ConfigError(
                f"privacy.noise_multiplier={self.noise:.4g} would spend epsilon {spent:.4g} in {self.total_steps} "
                f"steps, more than "
                f"privacy.epsilon={self.config.epsilon:g}; leave the noise empty in a new run, or raise "
                f"privacy.epsilon."
            )

    def get_state(self) -> dict[str, Any]:
        """What a checkpoint must hold: the account alone, for draws and noise are functions of the secret and the
        step."""
        return {"history": [list(spell) for spell in self.history]}

    def load(self, state: dict[str, Any]) -> None:
        """Go on with the account of a checkpoint. Raises ConfigError where what is left would overspend."""
        self.history = [(float(noise), float(rate), int(steps)) for noise, rate, steps in state["history"]]
        self.refuse_overspending(sum(steps for *_, steps in self.history))

    def report(self) -> dict[str, Any]:
        """privacy.json: what was promised, to whom, and what it cost."""
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
            "sampling": "Poisson: each row enters each step by itself",
            "seed_is_secret": self.config.noise_seed is None,
            "covers": "the weights of all checkpoints, and what is made of them",
            "does_not_cover": "logged losses, counts and lengths, the choice of the best checkpoint, held-out rows, "
            "noise_seed, "
            "and attacks on the rounding of floating-point noise",
        }

    def describe(self) -> str:
        """The account in words."""
        r = self.report()
        told = (
            f"Privacy: epsilon {r['epsilon']:.3g} at delta {r['delta']:.2g} for {UNIT}, after {r['steps']:,} steps "
            f"({r['accountant']})."
        )
        told += " It covers the weights; the logged losses and the file noise_seed are not for others."
        return (
            told
            if r["seed_is_secret"]
            else f"{told} privacy.noise_seed is given, so whoever reads config.yaml can take the noise off."
        )
