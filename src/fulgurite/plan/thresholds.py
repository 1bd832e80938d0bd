"""The thresholds of the rules, in one table, each with its source. What has no source is ours: move it when
measured.

The usual ranges of parameters are in their declarations (`usual`), rates in optim/default_lrs.py, betas in
stage/preference_table.py: they are not repeated here.
"""

from __future__ import annotations

import math

from fulgurite.config.schema import Range, Usual
from fulgurite.plan.context import PlanFacts

FEW, LITTLE, SHORT = 10, 50, 200
"""Steps: below the first nothing is learned, below the second a model rarely changes, below the third it is close.
Ours; the second was 100 until the default run was measured: its 90 steps take the loss from 5.2 to 2.3 on held-out
questions."""
ABSURD = 50.0
"""How many times outside its band a value is refused in a short run and with the tiny model too. At 30 times the
highest rate in use the tiny model learns, at 100 its loss climbs from the third step (measured)."""
FAR = 10.0
"""How many times outside its band a value is refused (knob-values' rule for all bands, ours)."""
PREFERENCE_FAR = 5.0
"""The same for full preference training: 1e-5 where 2e-6 is the highest; SimPO's authors call 1e-5 broken text (its
README)."""
MUON_OWN = 1e-3
"""The rate below which Muon in its own scale hardly moves; its README takes 0.02."""
MOST_EPOCHS = 3
"""Passes over the data that are usual at most: the upper end of what `trainer.epochs` declares."""
ALPHA = Range(0.5, 4.0)
"""alpha / rank: 1 (peft) and 2 (LLaMA-Factory's command line, torchtune) are usual; half and twice of that are borne
(ours)."""
WARMUP_MOST = 0.3
"""The share of a run beyond which a warmup is long: 0.03 to 0.1 are in use (ours)."""
KTO_BATCH = Range(16, 128)
"""Answers a step (TRL's KTO page)."""
KTO_BALANCE = Range(1.0, 4 / 3)
"""Weighted good answers for each weighted bad one (TRL's KTO page)."""
PAIRS_FEW, PAIRS_SOME = 1_000, 10_000
"""Pairs for a reward model: below the first it guesses, about the second are wanted (LlamaFactory #934)."""
LENGTH_TELLS = 0.65
"""The share of pairs in which length alone gives the better answer away (ours)."""
MEMORY_FULL, MEMORY_TIGHT = 0.95, 0.8
"""Shares of the free memory; the estimate is good to 15 %."""
UNEVEN = 0.05
"""The share of memory that processes may allocate beyond what they divide (ours)."""
DISK_FULL, DISK_TIGHT = 0.9, 0.5
"""Shares of the free disk (ours)."""
CUT_SOME, CUT_MANY = 0.01, 0.2
"""The share of examples that are cut, or lost (ours)."""
LABELS_FEW = 0.05
"""The share of tokens that are learned (ours)."""
EPOCHS_MOST, EPOCHS_LARGE, LARGE = 3.0, 1.0, 100_000
"""Passes over the data, and over so many rows and more (Zephyr 1, Tülu 3 2, Unsloth up to 3)."""
ALIKE = 0.01
"""The share of examples that the data contain more than once (ours)."""
TOKENISED_A_SECOND = 300_000
"""Tokens that a fast tokenizer makes in one process (ours, rounded down)."""
LONG = 600.0
"""Seconds of preparing that a person wants to know of (LlamaFactory #3939)."""
SPREAD = 0.025
"""The spread of a language model's weights: with it the share that a step leaves unchanged in bf16 is the 84 %
measured at 1e-5."""
BF16_GRAIN = 512
"""A step below this part of a bf16 weight is rounded away."""
PURE_BF16 = 1e-4
"""The rate from which rounding to the nearest is borne."""
LEFT_OUT, LEFT_OUT_MUCH = 0.01, 0.2
"""Shares of the frozen weights without an adapter: from the first a note, from the second a warning (ours)."""


def is_trial(seen: PlanFacts) -> bool:
    """Whether somebody only wants to see that it works: a short run by trainer.max_steps, or a model that knows
    nothing.

    What is a matter of taste is then no reason to refuse.
    """
    return bool(seen.run.model.toy or (seen.is_given("trainer.max_steps") and seen.steps < SHORT))


def is_refused(seen: PlanFacts, times: float, far: float = FAR) -> bool:
    """Whether a value `times` outside its band (below 1 under it) is an error in this run, not a warning."""
    # A quotient such as 3e-4 / 3e-5 is not exactly 10: a value at the limit is not beyond it.
    outside = max(times, 1 / times)
    return outside > ABSURD * (1 + 1e-9) or (outside > far * (1 + 1e-9) and not is_trial(seen))


def measure_excess(value: float, usual: Usual | None) -> float:
    """How many times `value` is outside a range: above 1 beyond its high end, below 1 under its low end, 1 inside."""
    if not isinstance(usual, Range) or usual.has(value):
        return 1.0
    if usual.high is not None and value > usual.high:
        return value / usual.high if usual.high > 0 else math.inf
    return value / usual.low if usual.low else 1.0
