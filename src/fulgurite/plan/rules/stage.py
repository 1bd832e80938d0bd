"""Rules about what a stage's loss needs: its beta, batches, balanced data, a model that can hold a conversation."""

from __future__ import annotations

from typing import Any

from fulgurite.config.losses import get_loss
from fulgurite.config.schema import Range, list_knobs
from fulgurite.language.message import message
from fulgurite.plan.context import PlanFacts
from fulgurite.plan.rules import rule
from fulgurite.plan.thresholds import (
    KTO_BALANCE,
    KTO_BATCH,
    LENGTH_TELLS,
    LITTLE,
    PAIRS_FEW,
    PAIRS_SOME,
    is_refused,
    is_trial,
    measure_excess,
)
from fulgurite.rules.registry import Finding, Severity
from fulgurite.stage.config.preference import Kto
from fulgurite.stage.preference_table import get_row

MIDDLE = 7 / 6
"""The middle of KTO's balance."""


@rule("loss.beta-band", "error", insist=True, about="stage.beta", source=(
    "S5, P19: LlamaFactory #5181, #4414, #4302, #4028; princeton-nlp/SimPO's README; the bands are those of "
    "stage/pairwise.py"
))
def check_beta_band(seen: PlanFacts) -> Finding | None:
    """A beta of another loss: 2 is usual in SimPO, 0.1 in DPO; an error at ten times outside."""
    run = seen.run
    name = "orpo_weight" if getattr(run.stage, "orpo_weight", None) is not None else "beta"
    value = getattr(run.stage, name, None)
    if not run.stage.refers or value is None:
        return None
    knob = next(k for k in list_knobs(type(run.stage)) if k.name == name)
    band = knob.find_usual(run)
    times = measure_excess(value, band)
    if times == 1 or not isinstance(band, Range):
        return None
    loss = f"stage.loss={run.stage.loss}" if run.stage.losses else f"stage={run.stage.name}"
    default = get_row(run.stage.loss, run.stage.length_normalize).beta if run.stage.losses else knob.default
    refuses = is_refused(seen, times)
    return Finding(
        message(
            "{name}={value:g} is unusual for {loss}: {low:g} to {high:g} is usual.",
            name=knob.path, value=value, loss=loss, low=band.low, high=band.high,
        ),
        f"{knob.path}={default:g}" if default is not None else "",
        severity=Severity.error if refuses else Severity.warning, about=knob.path,
    )


@rule("kto.batch", "error", about="trainer.global_batch_size", source=(
    "S23: TRL's KTO page (16 to 128, at least 4 seen together); LlamaFactory #8725"
))
def check_kto_batch(seen: PlanFacts) -> Finding | None:
    """Too few answers in a step for KTO's baseline, which here is the whole step's; an error for a single one."""
    size = seen.run.trainer.global_batch_size
    if not seen.run.stage.judged or size is None or KTO_BATCH.has(size):
        return None
    if measure_excess(size, KTO_BATCH) > 1:
        return Finding(
            message("trainer.global_batch_size={size} is large for KTO: 16 to 128 is usual.", size=size),
            "trainer.global_batch_size=64", severity=Severity.warning,
        )
    refuses = size == 1 and not is_trial(seen)
    return Finding(
        message(
            "trainer.global_batch_size={size} is small for KTO, which estimates its baseline from the other answers "
            "of a step: 16 to 128 is usual.",
            size=size,
        ),
        "trainer.global_batch_size=32", severity=Severity.error if refuses else Severity.warning,
    )


@rule("kto.balance", "warning", source="TRL's KTO page (weighted good to bad between 1:1 and 4:3)")
def check_kto_balance(seen: PlanFacts) -> Finding | None:
    """Good and bad answers with such unequal weights that one kind hides the other."""
    stage, data = seen.run.stage, seen.data
    if not stage.judged or data is None or not data.positives + data.negatives:
        return None
    good, bad = stage.desirable_weight * data.positives, stage.undesirable_weight * data.negatives
    if not good or not bad:
        return Finding(
            message(
                "{good:,} good and {bad:,} bad answers: KTO needs both kinds.", good=data.positives, bad=data.negatives
            )
        )
    ratio = good / bad
    # A remedy has three digits: the ratio that it gives may miss the range by a little.
    if 0.99 <= measure_excess(ratio, KTO_BALANCE) <= 1.01:
        return None
    if ratio > 1:
        remedy = _balance("undesirable", good / data.negatives / MIDDLE, stage.desirable_weight)
    else:
        remedy = _balance("desirable", MIDDLE * bad / data.positives, stage.undesirable_weight)
    return Finding(
        message(
            "{good:,} good and {bad:,} bad answers, weighted {ratio:.2g} : 1; for KTO 1 : 1 to 4 : 3 is usual.",
            good=data.positives, bad=data.negatives, ratio=ratio,
        ),
        remedy,
    )


def _balance(rare: str, weight: float, now: float) -> str:
    """Returns the overrides that give the rarer kind of answers the weight `weight`, or the same ratio if that is not
    usual; `now` is the weight of the other kind. Empty if no usual weights have the ratio."""
    usual: Any = next(knob.usual for knob in list_knobs(Kto) if knob.name == "desirable_weight")
    if weight <= usual.high:
        return f"stage.{rare}_weight={weight:.3g}"
    other = "desirable" if rare == "undesirable" else "undesirable"
    # Only the ratio of the two weights counts for the balance: both are divided by weight / usual.high.
    less = now * usual.high / weight
    return f"stage.{rare}_weight={usual.high:g} stage.{other}_weight={less:.3g}" if less >= usual.low else ""


@rule("rm.data", "warning", source="P17: LlamaFactory #571, #934 (about 10k pairs), #41")
def check_reward_data(seen: PlanFacts) -> Finding | None:
    """Pairs from which a reward model learns length, or too little: its loss stays at ln 2, which is guessing."""
    if not seen.run.stage.gives_rewards or seen.data is None or not seen.data.rows:
        return None
    pairs, longer = seen.data.rows, seen.data.length_bias
    epochs = seen.run.trainer.epochs or 1
    # one epoch of few pairs would be too few steps, and the rule about them would ask for more epochs
    once = "trainer.epochs=1" if epochs > 1 and seen.steps >= LITTLE * epochs else ""
    if max(longer, 1 - longer) > LENGTH_TELLS:
        sentence = message(
            "The longer answer is preferred in {share:.0%} of {pairs:,} pairs: a reward model learns length from them.",
            share=longer, pairs=pairs,
        ) if longer > 0.5 else message(
            "The shorter answer is preferred in {share:.0%} of {pairs:,} pairs: a reward model learns length from "
            "them.",
            share=1 - longer, pairs=pairs,
        )
        return Finding(sentence, once)
    if pairs < PAIRS_FEW:
        return Finding(
            message(
                "{pairs:,} pairs are few for a reward model: it takes about {wanted:,} to be much better than "
                "guessing.",
                pairs=pairs, wanted=PAIRS_SOME,
            ),
            once,
        )
    if pairs < PAIRS_SOME:
        return Finding(
            message(
                "{pairs:,} pairs are a small number for a reward model: about {wanted:,} are wanted.",
                pairs=pairs, wanted=PAIRS_SOME,
            ),
            once, severity=Severity.note,
        )
    return None


@rule(
    "preference.pairs",
    "error",
    source="reliability T19; equal texts and unlike prompts are refused as the file is read",
)
def check_pairs(seen: PlanFacts) -> Finding | None:
    """Pairs whose two answers are the same tokens: there is nothing to prefer."""
    data = seen.data
    if data is None or not data.same_pairs:
        return None
    place = message("{place}: ", place=data.first_same_pair) if data.first_same_pair else message("")
    more = message(" (and {count:,} more pairs)", count=data.same_pairs - 1) if data.same_pairs > 1 else message("")
    return Finding(
        message(
            "{place}chosen and rejected are the same tokens{more}: there is nothing to prefer; correct the data.",
            place=place, more=more,
        )
    )


@rule("stage.no-sft", "warning", source="Tülu 3 and Zephyr: SFT first, then DPO")
def check_no_sft(seen: PlanFacts) -> Finding | None:
    """Preference training on what looks like a base model, which cannot hold a conversation yet."""
    run = seen.run
    if not run.stage.refers or not seen.model.is_base or get_loss(run.stage).sft_weight:
        return None
    return Finding(
        message(
            "{model} looks like a base model, as its tokenizer has no chat template; stage={stage} usually follows "
            "stage=sft.",
            model=seen.model.path or run.model.name, stage=run.stage.name,
        ),
        "stage.loss=orpo" if run.stage.losses else "",
    )


@rule("ppo.last-resort", "note", source=(
    "S1, P18: LlamaFactory #10757, #5936, #6373, #1164, #6881; https://github.com/hiyouga/LlamaFactory/pull/9617"
))
def check_last_resort(seen: PlanFacts) -> Finding | None:
    """PPO, although DPO or GRPO would do."""
    if not seen.run.stage.value_head:
        return None
    return Finding(
        message(
            "PPO needs a policy, a reference, a value head and a reward, and has the most settings to get wrong; "
            "stage=dpo does most of it offline."
        ),
        "stage=grpo",
    )
