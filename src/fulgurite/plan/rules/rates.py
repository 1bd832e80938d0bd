"""How large steps are: the learning rate, and what multiplies it."""

from __future__ import annotations

from dataclasses import replace

from fulgurite.config.facts import Facts
from fulgurite.config.losses import get_loss
from fulgurite.config.schema import Range, list_options
from fulgurite.optim.default_lrs import recommend, usual
from fulgurite.plan.context import PlanFacts
from fulgurite.plan.rules import rule
from fulgurite.plan.thresholds import ALPHA, FAR, MUON_OWN, PREFERENCE_FAR, is_refused, measure_excess
from fulgurite.rules.registry import Finding, Severity


@rule("rate.low-for-lora", "warning", about="optim.lr", source=(
    "P1, S3: LlamaFactory #280 (5e-5 nothing, 1e-3 worked), #690, #1540, #6216, #6504, #8242; "
    "https://github.com/QwenLM/Qwen3-VL/issues/127"
))
def check_low_for_lora(seen: PlanFacts) -> Finding | None:
    """A rate for full fine-tuning under an adapter: the run goes through, and the model answers as before."""
    if not _is_low_for_adapter(seen):
        return None
    run, band = seen.run, usual(seen.run)
    return Finding(
        f"optim.lr={run.optim.lr:g} is low for method={run.method.name}: most runs of stage={run.stage.name} use "
        f"{band.low:g} to "
        f"{band.high:g}, and {seen.steps:,} steps of it will hardly change the model.",
        _recommend(seen),
    )


@rule("rate.high-for-preference", "error", insist=True, about="optim.lr", source=(
    "P4, S3: LlamaFactory #6153 (answer: add the SFT term), #7643; knob-values.md, section 3"
))
def check_high_for_preference(seen: PlanFacts) -> Finding | None:
    """A rate for supervised fine-tuning in preference training: it drives both answers down."""
    if not _is_high_for_preference(seen):
        return None
    run, band = seen.run, usual(seen.run)
    what = getattr(run.stage, "loss", run.stage.name)
    far = PREFERENCE_FAR if run.method.lr_like == "full" else FAR
    refuses = is_refused(seen, measure_excess(run.optim.lr, band), far * (1 - 2e-9))
    return Finding(
        f"{what} with method={run.method.name} and optim.lr={run.optim.lr:g}: published runs use {band.low:g} to "
        f"{band.high:g}; higher "
        "rates drive both answers down.",
        _recommend(seen), severity=Severity.error if refuses else Severity.warning,
    )


@rule("rate.out-of-band", "error", insist=True, about="optim.lr", source=(
    "P3: LlamaFactory #2810, #6069 (loss 0 or garbage at 5e-2 and 3e-3)"
))
def check_out_of_band(seen: PlanFacts) -> Finding | None:
    """A rate outside those in use for this stage, method and size; an error where it is ten times outside."""
    run = seen.run
    if run.optim.lr is None or _is_low_for_adapter(seen) or _is_high_for_preference(seen) or _is_muon_still(seen):
        return None
    band = usual(run)
    if _has_own_term(seen):  # the table's band for dpo is not theirs above
        band = Range(band.low, usual(replace(run, stage=list_options("stage")["sft"]())).high)
    times = measure_excess(run.optim.lr, band)
    if times == 1:
        return None
    place = f"for stage={run.stage.name} with method={run.method.name}"
    if times > 1:
        sentence = f"optim.lr={run.optim.lr:g} is {times:.3g} times the highest rate in use {place} ({band.high:g})."
    else:
        sentence = f"The lowest rate in use {place} ({band.low:g}) is {1 / times:.3g} times optim.lr={run.optim.lr:g}."
    refuses = is_refused(seen, times)
    return Finding(sentence, _recommend(seen), severity=Severity.error if refuses else Severity.warning)


@rule("optim.muon-rate", "warning", about="optim.lr", source=(
    "S25: Muon's README (0.02); that it is no optimizer of adapters, optim=muon says"
))
def check_muon_rate(seen: PlanFacts) -> Finding | None:
    """AdamW's rate in Muon's own scale, in which it does not move."""
    if not _is_muon_still(seen):
        return None
    return Finding(
        f"Muon in its own scale takes about 0.02; optim.lr={seen.run.optim.lr:g} is AdamW's.", "optim.scale=rms"
    )


@rule("lora.scale-pinned", "warning", about="method.alpha", source=(
    "S4: LlamaFactory #2465 (rank 8 to 64 at alpha 16 cuts the scale from 2 to 0.25)"
))
def check_scale_pinned(seen: PlanFacts) -> Finding | None:
    """An alpha that was pinned while the rank moved, so that the adapter counts for less, or more, than it should."""
    method = seen.run.method
    alpha = getattr(method, "alpha", None)
    if alpha is None or not seen.is_given("method.alpha"):
        return None
    divisor = method.rank**0.5 if str(method.variant) == "rslora" else method.rank
    scale = alpha / divisor
    if ALPHA.has(scale):
        return None
    other = 2 / scale
    strong = f"{other:.3g} times as strong" if other > 1 else f"{scale / 2:.3g} times weaker"
    return Finding(
        f"method.alpha={alpha:g} at method.rank={method.rank} makes a scale of {scale:.3g}; at the usual 2 the update "
        f"is {strong}.",
        f"method.alpha={2 * divisor:.4g}",
    )


def _is_low_for_adapter(seen: PlanFacts) -> bool:
    run = seen.run
    return bool(
        run.method.adapter
        and run.stage.next_token
        and run.optim.lr is not None
        and measure_excess(run.optim.lr, usual(run)) < 1
        and not _is_muon_still(seen)
    )


def _is_high_for_preference(seen: PlanFacts) -> bool:
    run = seen.run
    return bool(
        run.stage.refers
        and run.optim.lr is not None
        and not _has_own_term(seen)
        and measure_excess(run.optim.lr, usual(run)) > 1
    )


def _has_own_term(seen: PlanFacts) -> bool:
    """Whether the loss carries a term of supervised fine-tuning, and bears its rates (ORPO 8e-6, CPO 1e-4 in its
    authors' code)."""
    return bool(get_loss(seen.run.stage).sft_weight)


def _is_muon_still(seen: PlanFacts) -> bool:
    optim = seen.run.optim
    return bool(optim.own_rate() is not None and optim.lr is not None and optim.lr < MUON_OWN)


def _recommend(seen: PlanFacts) -> str:
    """The rate of the table for this very run."""
    return f"optim.lr={recommend(seen.run, Facts()).value:g}"
