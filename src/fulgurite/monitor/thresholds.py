"""All thresholds of the monitor's rules, each with its source. "Ours" may be moved once measured."""

from __future__ import annotations

ABOVE_CHANCE = 1.0
"""Nats above ln(vocabulary) that a first loss may have: a random model has ln V. Ours."""
KNOWN_ALREADY = 0.05
"""Nats: a first loss below this means that the prompt contains the answer, or that it was learned before. Ours."""
FIRST_LABELS = 64
"""Label tokens below which a first loss means too little. Ours."""
LN2_OFF = 0.1
"""How far a reward model's first loss may be from ln 2 (its head begins at zero). The troubles of LLaMA-Factory's
users, #571."""
ZERO_LOSS = 1e-6
"""A loss of nothing; LLaMA-Factory #8088, #7263 showed 0.0000."""
ZERO_STEPS = 3
"""In a row. Ours."""

ABOVE_STEPS = 5
"""Losses in a row above chance after which the model knows less than nothing. Ours."""
ABOVE_FAR, ABOVE_EARLY = 2.0, 3
"""A single loss so many times chance, or above chance in one of so many first steps, is no odd row. Ours: a full run
of the tiny model at ten times the highest rate had 10.1 of ln(512) = 6.2 in step 7, and 4.5 before and after
(measured)."""
UNBOUNDED_SPIKE = 3.0
"""Times the median, for losses that are squares of log ratios. Ours."""
BEFORE_SPIKE = 20
"""Losses that such a median needs. Ours."""
JUMP_STEPS = 2
"""High losses in a row: one alone is an odd batch. Ours."""
JUMP_FEW = 16
"""Pairs that the high losses of a preference stage together hold: a single pair may cost 5 nats in a healthy run.
Ours."""
JUMP_NATS = 1.0
"""The least rise that is a jump. Ours; healthy LoRA runs of the bundled model reached 0.29 of the whole margin at batch
size 1 and 0.06 at 4 (measured)."""
JUMP_NOISE = 5.0
"""And so many standard deviations of the noise between steps. Ours."""
JUMP_EXAMPLES = 3.75
"""2.5 standard deviations of 1.5 nats, by which examples differ (text in several languages, and code). Replaces
the
noise before JUMP_KNOWN losses are there. Ours."""
JUMP_KNOWN = 8
"""Losses from which the noise between steps is estimated. Ours."""
LEVEL_STEPS = 4
"""The level of a loss is the lowest median of so many losses in a row. Ours."""
RISEN = 0.5
"""Nats above the first losses; at the end of a run, above the level before. Ours."""
ENDING = 5
"""Losses whose mean is where a run ended. Ours."""
RISEN_ERRORS = 4.0
"""And standard errors. Ours."""
RISEN_STEPS = 20
"""Losses in each mean. Ours."""

PLATEAU_STEPS = 100
"""Steps after the warmup until a loss that has not fallen is one. Ours."""
PLATEAU_SHORT = 30
"""A shorter run of at least so many steps is judged at its end. Ours."""
PLATEAU_WINDOW = 30
"""Losses in each mean. Ours."""
PLATEAU_FALL = 0.01
"""A smaller fall is none; and it must be less than two standard errors. Ours."""
PLATEAU_SURE = 0.05
"""The fall plus two standard errors must be below this, or the noise is too large for a finding. Ours."""
LOW_UPDATE = {"adapter": 1e-3, "whole": 2e-5}
"""An update ratio below which a rate that does not help is rather too low than useless. Ours: LoRA at 2e-4 gives
about 5e-3 to 1e-2, full weights at 1e-5 about 2e-4."""

EVALUATIONS = 3
"""Rises in a row. Early stopping's usual patience."""
OVERFIT_RISE = 0.005
"""The least rise since the best, as a share. Ours."""

CLIPPED = 0.5
"""Share of the steps. LLaMA-Factory #3996, #7710."""
CLIP_STEPS = 50
"""After the warmup. Ours."""
NORM = 100.0
"""LLaMA-Factory #6249."""
NORM_STEPS = 20
"""The median of so many. Ours."""
NORM_WILD, NORM_WILD_STEPS = 1000.0, 3
"""A norm that needs no median, in so many steps in a row. Ours."""
MOVED = 1e-7
"""An update ratio below this is no movement: float32 resolves 6e-8."""
MOVED_TIMES = 3
"""Measured steps in a row, at half the rate or more: the 1st, 2nd and 4th of a constant rate. Ours."""
UNCHANGED = 0.5
"""Share of the weights. Ours: one step of the size 5e-5 leaves 43 % of them, one of 2e-5 leaves 70 %, one of 1e-5 84
% (measured)."""
UNCHANGED_STEPS = 10
"""In a row, at half the rate or more. Ours."""
UPDATE_HIGH = 0.2
"""An update ratio above this shakes the model. About 1e-3 is healthy in pre-training (Karpathy's lectures); ours,
far above what usual rates give."""
UPDATE_SIZE = 0.5
"""A single update ratio that replaces the weights rather than changes them. Ours: at thirty times the highest rate
in use the tiny model has 0.26 and learns, at a hundred times 0.72 and its loss climbs (measured)."""
GROWN = 64
"""Steps after which the ratio of weights that began at zero is meaningful. Ours."""
SETTLED = 8
"""Steps that an adapter needs to grow before its ratio is meaningful. Ours."""
FULL_RATE = 0.5
"""The share of optim.lr from which a step counts as one at full rate. Ours."""

CHOSEN_FALL = 0.1
"""Share of the chosen log-probability at the start. Seen in LLaMA-Factory #6153, #7643."""
FALL_ERRORS = 3.0
"""Standard errors that a fall must have where answers are not compared with themselves. Ours."""
DPO_WINDOW = 20
"""Steps in each mean. Ours."""
WRONG_STEPS = 50
"""Steps whose accuracy is counted, after as many. Ours."""
WRONG_EARLY = 20
"""Steps after which a side that is preferred against the data is found early, where chance is excluded by
WRONG_SURE. Ours."""
WRONG_SURE = 4.0
"""Standard errors of an interval that is looked at after every step. Ours."""
STUCK_STEPS = 200
"""Steps after which a reward model must have found something; half of them are counted. LLaMA-Factory #571."""
STUCK_SHORT = 50
"""A shorter run of at least so many steps is judged at its end. Ours."""
TIES = 0.8
"""Share of groups. Ours."""
TIE_ROLLOUTS = 5
"""In a row. Ours."""

ENDLESS = 0.3
"""Share of the samples, by more than chance: of five, four. LLaMA-Factory #5593, #2884; a healthy run of the bundled
model had two of five in its middle."""
REPEATED = 0.5
"""Share of an answer's 4-grams that it repeats. LLaMA-Factory #2611."""
GRAMS = 16
"""4-grams that an answer needs to be judged. Ours."""
PROMPTS = 3
"""Samples that are enough to say something. Ours."""
COLLAPSED_PIECES = 8
"""Words and marks from which one token over and over, or one answer to all prompts, is no short answer to a short
question. Ours."""
COLLAPSED_SHORTER = 3
"""How many times longer nine of ten trained answers may be than one short answer to all prompts. Ours."""
SAME = 0.8
"""Share of answers that are as before. LLaMA-Factory #280, #690, #6216."""

WAIT_STEPS = 20
"""Steps over which waiting is measured. Ours."""
WAIT_LEAST = 0.005
"""Seconds a step: less is not worth a word. Ours."""
