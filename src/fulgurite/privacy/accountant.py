"""Noise against epsilon, both ways, and the noise itself: pure functions, light until one of them is called.

The accountants are Opacus'. They count Poisson-subsampled Gaussian steps, for data sets that differ by one row more
or less.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fulgurite.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Spell = tuple[float, float, int]
"""Noise multiplier, sampling rate, and how many steps were taken with them."""
CLOSE = 0.005
"""How far below the target, as a share of it, a solved epsilon may lie."""
DRAW, NOISE = 0, 1
"""The two streams of random numbers that come from a run's secret."""


def compute_delta(rows: int) -> float:
    """rows^-1.2, and less than 1 for a single row."""
    return float(max(rows, 2) ** -1.2)


def compute_rate(batch_size: int, rows: int) -> float:
    """The chance of each row to be drawn in a step whose expected size is `batch_size`."""
    return min(1.0, batch_size / rows)


def compute_epsilon(history: Sequence[Spell], delta: float, accountant: str = "rdp") -> float:
    """The epsilon that the steps of `history` spend at `delta`; 0 for none."""
    from opacus.accountants import create_accountant

    taken = [spell for spell in history if spell[2] > 0]
    if not taken:
        return 0.0
    counting = create_accountant(mechanism=str(accountant))
    counting.history = taken
    with warnings.catch_warnings():
        # Opacus tries orders up to 63: beyond, the bound would be tighter, and it holds all the same.
        warnings.filterwarnings("ignore", message="Optimal order is the")
        return float(counting.get_epsilon(delta=delta))


def solve_noise(epsilon: float, delta: float, rate: float, steps: int, accountant: str = "rdp") -> float:
    """The noise multiplier whose `steps` spend at most `epsilon`, and at least 99.5 % of it. ConfigError where none
    is enough."""
    from opacus.accountants.utils import get_noise_multiplier

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Optimal order is the")
        try:
            found = get_noise_multiplier(
                target_epsilon=epsilon, target_delta=delta, sample_rate=rate, steps=steps, accountant=str(accountant),
                epsilon_tolerance=CLOSE * epsilon,
            )
        except ValueError as error:  # the noise grew to a million
            raise ConfigError(
                f"privacy.epsilon={epsilon:g} is out of reach at delta {delta:.2g} with accountant={accountant}, "
                f"however large the "
                "noise; raise privacy.epsilon, or train on more rows."
            ) from error
    return float(found)


def build_generator(secret: int, stream: int, step: int) -> np.random.Generator:
    """The generator of one step: a function of the secret, so that a resumed run draws what it would have drawn."""
    import numpy as np

    # torch's generator on a CPU reads 32 bits of a seed, which can be tried one by one; this one takes in all 128.
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(secret, spawn_key=(stream, step))))


def draw_rows(secret: int, step: int, rows: int, rate: float) -> npt.NDArray[np.int64]:
    """The rows of a step: each enters by itself, with the chance `rate` (Poisson sampling). There may be none."""
    import numpy as np

    return np.flatnonzero(build_generator(secret, DRAW, step).random(rows) < rate)
