"""The default learning rates by stage, method and model size: one table with its sources. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fulgurite.config.schema import Derived, Range, find_option
from fulgurite.language.message import UserMessage, message

if TYPE_CHECKING:
    from fulgurite.config.facts import Facts
    from fulgurite.config.run import RunConfig

SIZES = (0.5, 4.0, 14.0)
"""Upper ends of the size classes in billions of parameters; the last class is open."""


@dataclass(frozen=True, slots=True)
class LrRow:
    """Rates for models up to 0.5, 4, 14 billion parameters and beyond; usual ranges up to 4 billion and beyond."""

    rates: tuple[float, float, float, float]
    usual_small: Range
    usual_large: Range
    source: str | UserMessage


TABLE: dict[tuple[str, str], LrRow] = {
    ("pt", "full"): LrRow(
        (2e-4, 5e-5, 2e-5, 1e-5),
        Range(2e-5, 3e-4),
        Range(5e-6, 5e-5),
        message("GPT-2 in Dutch 2e-4 (alignment-handbook, verified); larger sizes ours"),
    ),
    ("pt", "lora"): LrRow(
        (2e-4, 1e-4, 1e-4, 1e-4),
        Range(5e-5, 1e-3),
        Range(5e-5, 5e-4),
        message("LLaMA-Factory's example 1e-4 (verified); the rest ours"),
    ),
    ("sft", "full"): LrRow(
        (1e-4, 3e-5, 1e-5, 3e-6),
        Range(1e-5, 1e-3),
        Range(2e-6, 2e-5),
        message("SmolLM2-135M 1e-3, Zephyr 7B 2e-5, LLaMA-Factory's examples 1e-5, Tülu 3 5e-6 (verified)"),
    ),
    ("sft", "lora"): LrRow(
        (1e-3, 3e-4, 2e-4, 1e-4),
        Range(1e-4, 2e-3),
        Range(1e-4, 3e-4),
        message(
            "QLoRA and TRL's PEFT table 2e-4, torchtune 3e-4, above 13B 1e-4 (verified); below 0.5B measured on the "
            "guide data, one seed"
        ),
    ),
    ("ppo", "full"): LrRow(
        (3e-6, 3e-6, 1e-6, 3e-7),
        Range(3e-7, 3e-6),
        Range(3e-7, 3e-6),
        message("TRL 3e-6 at 1 to 4B (verified), torchtune 1e-6 at 7B (unverified); other sizes ours"),
    ),
    ("ppo", "lora"): LrRow(
        (1e-5, 1e-5, 1e-5, 3e-6),
        Range(3e-6, 3e-5),
        Range(3e-6, 3e-5),
        message("ours: about ten times the rate of full fine-tuning"),
    ),
    ("grpo", "full"): LrRow(
        (1e-6, 1e-6, 1e-6, 3e-7),
        Range(3e-7, 5e-6),
        Range(3e-7, 5e-6),
        message("TRL 1e-6, Tülu 3's RL 3e-7 (verified); above 30B ours"),
    ),
    ("grpo", "lora"): LrRow(
        (1e-5, 1e-5, 1e-5, 3e-6),
        Range(5e-6, 5e-5),
        Range(5e-6, 5e-5),
        message("TRL's PEFT table 1e-5, its LoRA guide 5e-5, axolotl's example 5e-6 (verified); above 30B ours"),
    ),
}

TABLE |= {
    ("dpo", "full"): LrRow(
        (1e-6, 1e-6, 5e-7, 2e-7),
        Range(5e-7, 2e-6),
        Range(2e-7, 1e-6),
        message("SmolLM2 1e-6, Zephyr and Tülu 3 5e-7, at 70B 2e-7 (verified)"),
    ),
    ("dpo", "lora"): LrRow(
        (1e-5, 1e-5, 5e-6, 2e-6),
        Range(1e-6, 2e-5),
        Range(1e-6, 1e-5),
        message("TRL's PEFT table and Zephyr's QLoRA 5e-6 (verified); smaller ours"),
    ),
    ("kto", "full"): LrRow(
        (1e-6, 1e-6, 1e-6, 5e-7),
        Range(5e-7, 5e-6),
        Range(5e-7, 5e-6),
        message("TRL's KTO page: 5e-7 to 5e-6, never outside (verified)"),
    ),
    ("kto", "lora"): LrRow(
        (5e-6, 5e-6, 5e-6, 2e-6),
        Range(5e-7, 5e-6),
        Range(5e-7, 5e-6),
        message("TRL's KTO page: 5e-7 to 5e-6, never outside (verified)"),
    ),
    ("rm", "full"): LrRow(
        (1e-5, 1e-5, 5e-6, 3e-6),
        Range(3e-6, 3e-5),
        Range(3e-6, 1e-5),
        message("Tülu 3 3e-6, TRL's default 1e-5 (verified); by size ours"),
    ),
    ("rm", "lora"): LrRow(
        (3e-4, 1e-4, 1e-4, 1e-4),
        Range(1e-4, 1e-3),
        Range(1e-4, 1e-3),
        message("LLaMA-Factory's example 1e-4, TRL's page 1e-3 (verified)"),
    ),
}

MUON_OWN = Derived(
    0.02, message("Muon with its own scale uses about 0.02 for every model (Muon's README, verified)")
)
MUON_OWN_USUAL = Range(0.002, 0.05)


def row(stage: str, method: str) -> LrRow:
    """Returns the row of a stage and a method, by name: the stage's own, or that of the options whose rates they
    use."""
    declared = find_option("stage", stage), find_option("method", method)
    like: str = getattr(declared[1], "lr_like", "full")
    own: Mapping[str, LrRow] = getattr(declared[0], "lr_rows", {})
    return own.get(like) or own.get("full") or TABLE[getattr(declared[0], "lr_like", "sft"), like]


def size_class(billions: float | None) -> int:
    """Returns the column for a model size; an unknown size counts as 7 billion, because too low a rate does less harm
    than too high a rate."""
    size = 7.0 if billions is None else billions
    return sum(size > top for top in SIZES)


def _factor(run: RunConfig) -> float:
    times: float = run.optim.lr_factor[0] * run.method.lr_factor
    return times


def usual(run: RunConfig) -> Range:
    """Returns the usual range of `optim.lr` for this run's stage, method, model size and optimizer."""
    own = run.optim.own_rate()
    return own[1] if own else _usual(run, _factor(run))


def usual_adam(run: RunConfig) -> Range:
    """Returns the usual range of the rate of the parameters that another optimizer leaves to AdamW."""
    return _usual(run, 1.0)


def _usual(run: RunConfig, factor: float) -> Range:
    found = row(run.stage.name, run.method.name)
    span = found.usual_small if size_class(run.model.billions()) < 2 else found.usual_large
    return Range((span.low or 0) * factor, min((span.high or 1) * factor, 1.0))


def recommend(run: RunConfig, facts: Facts) -> Derived:
    """Returns the rate if `optim.lr` is empty, with its reason."""
    own = run.optim.own_rate()
    return own[0] if own else _recommend(run, _factor(run))


def recommend_adam(run: RunConfig, facts: Facts) -> Derived:
    """Returns Muon's `optim.adam_lr` if it is empty, with its reason."""
    if run.optim.own_rate():
        return _recommend(run, 1.0)
    return Derived(run.optim.lr, message("optim.lr: with optim.scale=rms the updates of Muon have the size of AdamW's"))


def _recommend(run: RunConfig, factor: float) -> Derived:
    stage, method, size = run.stage.name, run.method.name, run.model.billions()
    found = row(stage, method)
    rate = min(found.rates[size_class(size)] * factor, 1.0)
    what = message("a model of unknown size (taken as 7B)")
    if size is not None:
        what = message("a model of {size:.3g}B parameters", size=size)
    names = [run.optim.name] if run.optim.lr_factor[1] else []
    names += [method] if run.method.lr_factor != 1 else []
    times = like = UserMessage()
    if factor != 1:
        times = message(", times {factor:g} for {names}", factor=factor, names=", ".join(names))
    if not run.stage.lr_rows and stage != run.stage.lr_like:
        like = message(", with the rates of stage={like}", like=run.stage.lr_like)
    return Derived(
        rate,
        message(
            "{stage} with {method} on {what}{times}{like}: {source}",
            stage=stage, method=method, what=what, times=times, like=like, source=found.source,
        ),
    )
