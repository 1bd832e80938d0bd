"""Schedules as pure functions of numbers: the factor on the peak rate at an optimizer step, counted from 0.

Each equals transformers' function of the same name at every step, bit for bit, also beyond `total` (transformers 5.23,
`optimization.py`, Apache-2.0). They are written again because those of transformers need a torch optimizer, and the
terminal's plot, the plan and the web page must draw the curve that trains without loading torch.

As in transformers, a warmup starts at exactly 0: the first optimizer step of a run with a warmup changes no weight.
torchtitan starts at 1 / warmup steps instead. transformers' form is kept so that runs compare step by step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from fulgurite.errors import ConfigError
from fulgurite.scheduler import config as declared
from fulgurite.scheduler.config import Scheduler

Curve = Callable[[int], float]
"""The factor on the peak rate, by optimizer step."""


def rise(step: int, warmup: int) -> float:
    """Returns the factor of the warmup: 0 at step 0, 1 at step `warmup`."""
    return step / max(1, warmup)


def constant(step: int) -> float:
    """Returns 1 at every step."""
    return 1.0


def constant_with_warmup(step: int, *, warmup: int) -> float:
    """Rises, then stays at 1."""
    return rise(step, warmup) if step < warmup else 1.0


def linear(step: int, *, total: int, warmup: int) -> float:
    """Rises, then falls in a straight line to 0 at `total`."""
    if step < warmup:
        return rise(step, warmup)
    return max(0.0, (total - step) / max(1, total - warmup))


def cosine(step: int, *, total: int, warmup: int, floor: float = 0.0) -> float:
    """Rises, then falls along half a cosine to `floor` at `total`; beyond it rises again, as in transformers."""
    if step < warmup:
        return rise(step, warmup)
    wave = 0.5 * (1.0 + math.cos(math.pi * _progress(step, total, warmup)))
    return max(0.0, wave * (1.0 - floor) + floor)


def cosine_with_restarts(step: int, *, total: int, warmup: int, cycles: int) -> float:
    """Rises, then falls along half a cosine `cycles` times, with a jump back to 1 in between; 0 from `total` on."""
    if step < warmup:
        return rise(step, warmup)
    progress = _progress(step, total, warmup)
    if progress >= 1.0:
        return 0.0
    # The remainder restarts the cosine; it is 0 again at each restart.
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * ((cycles * progress) % 1.0))))


def polynomial(step: int, *, total: int, warmup: int, power: float, lr: float, lr_end: float) -> float:
    """Rises, then falls as (time left)^`power` from `lr` to `lr_end`, both absolute rates."""
    if step < warmup:
        return rise(step, warmup)
    # transformers divides by zero at step = total = warmup; the end of the run is the end of the curve
    if step > total or total == warmup:
        return lr_end / lr
    # Both rates are absolute, so the result is divided by the peak at the end.
    left = 1 - (step - warmup) / (total - warmup)
    return float(((lr - lr_end) * left**power + lr_end) / lr)


def inverse_sqrt(step: int, *, warmup: int, timescale: int) -> float:
    """Rises, then falls as 1/√(1 + (step - warmup)/timescale); has no end."""
    if step < warmup:
        return rise(step, warmup)
    # Shifted, so that the factor is 1 at the end of the warmup for any timescale.
    return 1.0 / math.sqrt((step + timescale - warmup) / timescale)


def warmup_stable_decay(step: int, *, warmup: int, stable: int, decay: int, floor: float = 0.0) -> float:
    """Rises from `floor`, stays for `stable` steps, falls along half a cosine to it in `decay` steps, then stays."""
    if step < warmup:
        # This warmup begins at `floor` and not at 0, as in transformers.
        return rise(step, warmup) * (1.0 - floor) + floor
    if step < warmup + stable:
        return 1.0
    if step < warmup + stable + decay:
        # From 1 to 0 while the share of the decay that is done goes from 0 to 1.
        wave = 0.5 * (1.0 + math.cos(math.pi * ((step - warmup - stable) / max(1, decay))))
        return max(0.0, wave * (1.0 - floor) + floor)
    return floor


def count_decay_steps(total: int, warmup: int, ratio: float) -> int:
    """Returns the steps of the decay: the share `ratio` of the run, at least one, at most what the warmup leaves."""
    # A short run may leave no room: then the warmup wins, and the decay is what is left.
    return max(0, min(max(1, round(ratio * total)), total - warmup))


def build(config: Scheduler, *, total: int, lr: float) -> Curve:
    """Returns the curve of `config`, whose warmup and timescale are filled in, for `total` steps and the peak rate
    `lr`.

    Raises ConfigError if `scheduler.lr_end` is not below `lr`.
    """
    c = declared
    match config:
        case c.Constant():
            return constant
        case c.ConstantWithWarmup():
            return partial(constant_with_warmup, warmup=_warmup(config))
        case c.Linear():
            return partial(linear, total=total, warmup=_warmup(config))
        case c.Cosine():
            return partial(cosine, total=total, warmup=_warmup(config))
        case c.CosineWithMinLr():
            return partial(cosine, total=total, warmup=_warmup(config), floor=config.min_ratio)
        case c.CosineWithRestarts():
            return partial(cosine_with_restarts, total=total, warmup=_warmup(config), cycles=config.cycles)
        case c.Polynomial():
            _below_peak(config.lr_end, lr)
            fall = partial(polynomial, power=config.power, lr=lr, lr_end=config.lr_end)
            return partial(fall, total=total, warmup=_warmup(config))
        case c.InverseSqrt():
            warmup = _warmup(config)
            return partial(inverse_sqrt, warmup=warmup, timescale=config.timescale or warmup or c.TIMESCALE)
        case c.WarmupStableDecay():
            warmup, decay = _warmup(config), count_decay_steps(total, _warmup(config), config.decay_ratio)
            stable = max(0, total - warmup - decay)
            return partial(warmup_stable_decay, warmup=warmup, stable=stable, decay=decay, floor=config.min_ratio)
    raise TypeError(f"{type(config).__name__} is no curve of this file")


def _progress(step: int, total: int, warmup: int) -> float:
    return (step - warmup) / max(1, total - warmup)


def _warmup(config: declared.Warm) -> int:
    if config.warmup_steps is None:
        raise TypeError("scheduler.warmup_steps must have been filled in before the curve is built")
    return config.warmup_steps


def _below_peak(lr_end: float, lr: float) -> None:
    if lr_end >= lr:
        raise ConfigError(
            "scheduler.lr_end={lr_end:g} must be below optim.lr={lr:g}; leave it at its default of 1e-07.",
            lr_end=lr_end, lr=lr,
        )
