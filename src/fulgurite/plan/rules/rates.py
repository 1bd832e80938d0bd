"""How large steps are: the learning rate, and the scale of an adapter."""

from __future__ import annotations

from fulgurite.config.facts import Facts
from fulgurite.config.losses import get_loss
from fulgurite.config.run import RunConfig
from fulgurite.language.message import message
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
    """An adapter with a learning rate for full fine-tuning: the run ends, and the model answers as before."""
    if not _is_low_for_adapter(seen.run):
        return None
    run, band = seen.run, usual(seen.run)
    return Finding(
        message(
            "optim.lr={lr:g} is low for method={method}: {low:g} to {high:g} is usual for stage={stage} at this size, "
            "and less hardly changes the model.",
            lr=run.optim.lr, method=run.method.name, stage=run.stage.name, low=band.low, high=band.high,
        ),
        _recommend(run),
    )


@rule("rate.high-for-preference", "error", insist=True, about="optim.lr", source=(
    "P4, S3: LlamaFactory #6153 (answer: add the SFT term), #7643; fulgurite/optim/default_lrs.py"
))
def check_high_for_preference(seen: PlanFacts) -> Finding | None:
    """Preference training with a learning rate above the usual ones: both answers become less likely."""
    run = seen.run
    if not _is_high_for_preference(run):
        return None
    band = usual(run)
    far = PREFERENCE_FAR if run.method.lr_like == "full" else FAR
    # is_refused tolerates 1e-9 above its limit; this limit is 2e-9 lower, so that exactly `far` times is refused too.
    refuses = is_refused(seen, measure_excess(run.optim.lr, band), far * (1 - 2e-9))
    return Finding(
        message(
            "optim.lr={lr:g} is high for {loss} with method={method}: {low:g} to {high:g} is usual at this size; with "
            "more, both answers become less likely.",
            lr=run.optim.lr, loss=getattr(run.stage, "loss", run.stage.name), method=run.method.name,
            low=band.low, high=band.high,
        ),
        _recommend(run), severity=Severity.error if refuses else Severity.warning,
    )


@rule("rate.out-of-band", "error", insist=True, about="optim.lr", source=(
    "P3: LlamaFactory #2810, #6069 (loss 0 or garbage at 5e-2 and 3e-3)"
))
def check_out_of_band(seen: PlanFacts) -> Finding | None:
    """A learning rate outside the usual range for this stage, method and size; an error at ten times outside."""
    run = seen.run
    # These three cases have rules of their own, which know the reason: one value gets one finding.
    if run.optim.lr is None or _is_low_for_adapter(run) or _is_high_for_preference(run) or _is_muon_still(run):
        return None
    band = usual(run)
    times = measure_excess(run.optim.lr, band)
    if times == 1:
        return None
    about = {"lr": run.optim.lr, "stage": run.stage.name, "method": run.method.name}
    if times > 1:
        sentence = message(
            "optim.lr={lr:g} is {times:.3g} times the highest usual rate ({high:g}) of stage={stage} with "
            "method={method} at this size.",
            **about, times=times, high=band.high,
        )
    else:
        sentence = message(
            "optim.lr={lr:g} is low: the lowest usual rate of stage={stage} with method={method} at this size "
            "({low:g}) is {times:.3g} times as high.",
            **about, times=1 / times, low=band.low,
        )
    refuses = is_refused(seen, times)
    return Finding(sentence, _recommend(run), severity=Severity.error if refuses else Severity.warning)


@rule("optim.muon-rate", "warning", about="optim.lr", source=(
    "S25: Muon's README (0.02); that it is no optimizer of adapters, optim=muon says"
))
def check_muon_rate(seen: PlanFacts) -> Finding | None:
    """Muon in its own scale with a learning rate of AdamW, at which it does not move."""
    if not _is_muon_still(seen.run):
        return None
    return Finding(
        message(
            "optim.lr={lr:g} is a rate of AdamW; Muon with optim.scale=own takes about 0.02.", lr=seen.run.optim.lr
        ),
        "optim.scale=rms",
    )


@rule("lora.scale-pinned", "warning", about="method.alpha", source=(
    "S4: LlamaFactory #2465 (rank 8 to 64 at alpha 16 cuts the scale from 2 to 0.25)"
))
def check_scale_pinned(seen: PlanFacts) -> Finding | None:
    """An alpha that was set for another rank, so that the adapter counts for less, or more, than it should."""
    method = seen.run.method
    alpha = getattr(method, "alpha", None)
    if alpha is None or not seen.is_given("method.alpha"):
        return None
    # The update is B·A times alpha / rank, and with rsLoRA times alpha / sqrt(rank) (Kalajdzievski, 2023).
    divisor = method.rank**0.5 if str(method.variant) == "rslora" else method.rank
    scale = alpha / divisor
    if ALPHA.has(scale):
        return None
    about = {"alpha": alpha, "rank": method.rank, "scale": scale}
    if scale < 2:
        sentence = message(
            "method.alpha={alpha:g} with method.rank={rank} scales the update by {scale:.3g}; the usual scale of 2 "
            "makes it {times:.3g} times as large.",
            **about, times=2 / scale,
        )
    else:
        sentence = message(
            "method.alpha={alpha:g} with method.rank={rank} scales the update by {scale:.3g}, which is {times:.3g} "
            "times the usual scale of 2.",
            **about, times=scale / 2,
        )
    return Finding(sentence, f"method.alpha={2 * divisor:.4g}")


def _is_low_for_adapter(run: RunConfig) -> bool:
    return bool(
        run.method.adapter
        and run.stage.next_token
        and run.optim.lr is not None
        and measure_excess(run.optim.lr, usual(run)) < 1
        and not _is_muon_still(run)
    )


def _is_high_for_preference(run: RunConfig) -> bool:
    return bool(
        run.stage.refers
        and run.optim.lr is not None
        and not get_loss(run.stage).sft_weight  # those take the rates of supervised fine-tuning
        and measure_excess(run.optim.lr, usual(run)) > 1
    )


def _is_muon_still(run: RunConfig) -> bool:
    optim = run.optim
    return bool(optim.own_rate() is not None and optim.lr is not None and optim.lr < MUON_OWN)


def _recommend(run: RunConfig) -> str:
    """Returns the override that sets the derived rate of this run."""
    return f"optim.lr={recommend(run, Facts()).value:g}"
