"""Rules about what the dtypes can hold. A device without bf16, and fp16 on a CPU, are refused by precision/policy.py.
"""

from __future__ import annotations

import math

from fulgurite.language.message import message
from fulgurite.plan.context import PlanFacts
from fulgurite.plan.rules import rule
from fulgurite.plan.thresholds import BF16_GRAIN, PURE_BF16, SPREAD, is_trial
from fulgurite.rules.registry import Finding, Severity


@rule("precision.born-bf16", "error", source="P6: LlamaFactory #482 (bf16 cured it), #4438, #6249, #4278, #4116")
def check_born_bf16(seen: PlanFacts) -> Finding | None:
    """Weights that were trained in bf16, computed in fp16, in which they overflow; an error if the device has bf16."""
    if seen.model.compute_dtype != "float16" or seen.model.stored_dtype != "bfloat16":
        return None
    has = seen.machine.bf16
    return Finding(
        message(
            "{model} was trained in bf16; fp16 overflows above 65504, and a loss of 0 or NaN follows.",
            model=seen.model.path or seen.run.model.name,
        ),
        "precision=bf16" if has else "precision=fp32", severity=Severity.error if has else Severity.warning,
    )


@rule("precision.pure-bf16", "error", insist=True, source=(
    "P11: LlamaFactory #9591; measured: at 1e-5 nearest leaves 84 % of the weights as they were"
))
def check_pure_bf16(seen: PlanFacts) -> Finding | None:
    """Steps that bf16 rounds away; an error for full preference training, whose rates are the smallest."""
    run = seen.run
    if (
        not run.precision.low_weights
        or str(run.precision.rounding) != "nearest"
        or run.optim.lr is None
        or run.optim.lr >= PURE_BF16
    ):
        return None
    share = compute_unmoved(run.optim.lr)
    refuses = run.stage.refers and run.method.whole and not is_trial(seen)
    if run.optim.alone:
        remedy = "precision.rounding=stochastic"
    else:
        remedy = (
            "optim=adamw precision.rounding=stochastic" if seen.is_given("precision.rounding") else "precision=bf16"
        )
    return Finding(
        message(
            "With precision=pure_bf16 and rounding to the nearest, about {share:.0%} of the weights ignore a step of "
            "{lr:g}.",
            share=share, lr=run.optim.lr,
        ),
        remedy, severity=Severity.error if refuses else Severity.warning,
    )


def compute_unmoved(lr: float) -> float:
    """Returns the share of normally distributed weights that are so large that a step of `lr`, about Adam's, is rounded
    away."""
    # P(|w| > 512 lr) of a normal w with deviation SPREAD is erfc(512 lr / (SPREAD sqrt(2))).
    return math.erfc(BF16_GRAIN * lr / (SPREAD * math.sqrt(2)))
