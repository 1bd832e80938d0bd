"""Epsilon for a noise multiplier, the noise multiplier for an epsilon, and the random numbers of a step. Pure
functions; Opacus and NumPy are imported when one is called.

The accountants are those of Opacus. They count Poisson-subsampled Gaussian steps, for data sets that differ in one
example.
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
"""Noise multiplier, sampling rate, and the number of steps with them."""
CLOSE = 0.005
"""How far below the target a solved epsilon may be, as a share of the target."""
DRAW, NOISE = 0, 1
"""The two streams of random numbers that are derived from the secret of a run."""


def compute_delta(rows: int) -> float:
    """Returns rows^-1.2; below 1 also for a single row."""
    return float(max(rows, 2) ** -1.2)


def compute_rate(batch_size: int, rows: int) -> float:
    """Returns the probability that a step draws a given row, if the expected batch has `batch_size` rows."""
    return min(1.0, batch_size / rows)


def compute_epsilon(history: Sequence[Spell], delta: float, accountant: str = "rdp") -> float:
    """Returns the epsilon that the steps of `history` spend at `delta`; 0 if there are none."""
    from opacus.accountants import create_accountant

    taken = [spell for spell in history if spell[2] > 0]
    if not taken:
        return 0.0
    # Opacus' accountant computes from its history; setting it avoids counting step by step.
    counting = create_accountant(mechanism=str(accountant))
    counting.history = taken
    with warnings.catch_warnings():
        # Opacus tries orders up to 63. A higher order would give a tighter bound; this one is valid too.
        warnings.filterwarnings("ignore", message="Optimal order is the")
        return float(counting.get_epsilon(delta=delta))


def solve_noise(epsilon: float, delta: float, rate: float, steps: int, accountant: str = "rdp") -> float:
    """Returns the noise multiplier with which `steps` spend at most `epsilon`, and at least 99.5 % of it.

    Raises ConfigError if no noise is enough.
    """
    from opacus.accountants.utils import get_noise_multiplier

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Optimal order is the")
        try:
            found = get_noise_multiplier(
                target_epsilon=epsilon, target_delta=delta, sample_rate=rate, steps=steps, accountant=str(accountant),
                epsilon_tolerance=CLOSE * epsilon,
            )
        except ValueError as error:  # Opacus gives up at a noise of a million
            raise ConfigError(
                "privacy.epsilon={epsilon:g} cannot be reached at delta {delta:.2g} with accountant={accountant} for "
                "any amount of noise; raise privacy.epsilon, or train on more examples.",
                epsilon=epsilon, delta=delta, accountant=accountant,
            ) from error
    return float(found)


def build_generator(secret: int, stream: int, step: int) -> np.random.Generator:
    """Returns the generator of one step, a function of the secret: a resumed run draws the same numbers."""
    import numpy as np

    # torch's CPU generator uses 32 bits of a seed, which can be found by trying all values; this one uses all 128.
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(secret, spawn_key=(stream, step))))


def draw_rows(secret: int, step: int, rows: int, rate: float) -> npt.NDArray[np.int64]:
    """Returns the rows of a step: each is drawn independently with probability `rate` (Poisson sampling). The result
    may be empty."""
    import numpy as np

    return np.flatnonzero(build_generator(secret, DRAW, step).random(rows) < rate)
