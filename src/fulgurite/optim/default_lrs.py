"""What learning rate to start from, by stage, method and model size: one table, with who says so. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fulgurite.config.schema import Derived, Range, find_option

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
    source: str


TABLE: dict[tuple[str, str], LrRow] = {
    ("pt", "full"): LrRow(
        (2e-4, 5e-5, 2e-5, 1e-5),
        Range(2e-5, 3e-4),
        Range(5e-6, 5e-5),
        "GPT-2 in Dutch 2e-4 (alignment-handbook, verified); larger sizes ours",
    ),
    ("pt", "lora"): LrRow(
        (2e-4, 1e-4, 1e-4, 1e-4),
        Range(5e-5, 1e-3),
        Range(5e-5, 5e-4),
        "LLaMA-Factory's example 1e-4 (verified); the rest ours",
    ),
    ("sft", "full"): LrRow(
        (1e-4, 3e-5, 1e-5, 3e-6),
        Range(1e-5, 1e-3),
        Range(2e-6, 2e-5),
        "SmolLM2-135M 1e-3, Zephyr 7B 2e-5, LLaMA-Factory's examples 1e-5, Tülu 3 5e-6 (verified)",
    ),
    ("sft", "lora"): LrRow(
        (1e-3, 3e-4, 2e-4, 1e-4),
        Range(1e-4, 2e-3),
        Range(1e-4, 3e-4),
        "QLoRA and TRL's PEFT table 2e-4, torchtune 3e-4, above 13B 1e-4 (verified); below 0.5B measured on the "
        "guide, one seed",
    ),
    ("ppo", "full"): LrRow(
        (3e-6, 3e-6, 1e-6, 3e-7),
        Range(3e-7, 3e-6),
        Range(3e-7, 3e-6),
        "TRL 3e-6 at 1 to 4B (verified), torchtune 1e-6 at 7B (unverified); other sizes ours",
    ),
    ("ppo", "lora"): LrRow(
        (1e-5, 1e-5, 1e-5, 3e-6),
        Range(3e-6, 3e-5),
        Range(3e-6, 3e-5),
        "ours: about ten times the rate of full fine-tuning",
    ),
    ("grpo", "full"): LrRow(
        (1e-6, 1e-6, 1e-6, 3e-7),
        Range(3e-7, 5e-6),
        Range(3e-7, 5e-6),
        "TRL 1e-6, Tülu 3's RL 3e-7 (verified); above 30B ours",
    ),
    ("grpo", "lora"): LrRow(
        (1e-5, 1e-5, 1e-5, 3e-6),
        Range(5e-6, 5e-5),
        Range(5e-6, 5e-5),
        "TRL's PEFT table 1e-5, its LoRA guide 5e-5, axolotl's example 5e-6 (verified); above 30B ours",
    ),
}

TABLE |= {
    ("dpo", "full"): LrRow(
        (1e-6, 1e-6, 5e-7, 2e-7),
        Range(5e-7, 2e-6),
        Range(2e-7, 1e-6),
        "SmolLM2 1e-6, Zephyr and Tülu 3 5e-7, at 70B 2e-7 (verified)",
    ),
    ("dpo", "lora"): LrRow(
        (1e-5, 1e-5, 5e-6, 2e-6),
        Range(1e-6, 2e-5),
        Range(1e-6, 1e-5),
        "TRL's PEFT table and Zephyr's QLoRA 5e-6 (verified); smaller ours",
    ),
    ("kto", "full"): LrRow(
        (1e-6, 1e-6, 1e-6, 5e-7),
        Range(5e-7, 5e-6),
        Range(5e-7, 5e-6),
        "TRL's KTO page: 5e-7 to 5e-6, never outside (verified)",
    ),
    ("kto", "lora"): LrRow(
        (5e-6, 5e-6, 5e-6, 2e-6),
        Range(5e-7, 5e-6),
        Range(5e-7, 5e-6),
        "TRL's KTO page: 5e-7 to 5e-6, never outside (verified)",
    ),
    ("rm", "full"): LrRow(
        (1e-5, 1e-5, 5e-6, 3e-6),
        Range(3e-6, 3e-5),
        Range(3e-6, 1e-5),
        "Tülu 3 3e-6, TRL's default 1e-5 (verified); by size ours",
    ),
    ("rm", "lora"): LrRow(
        (3e-4, 1e-4, 1e-4, 1e-4),
        Range(1e-4, 1e-3),
        Range(1e-4, 1e-3),
        "LLaMA-Factory's example 1e-4, TRL's page 1e-3 (verified)",
    ),
}

MUON_OWN = Derived(0.02, "Muon in its own scale takes about 0.02 whatever the model (Muon's README, verified)")
MUON_OWN_USUAL = Range(0.002, 0.05)


def row(stage: str, method: str) -> LrRow:
    """The row of two declared options, by name: the stage's own, else that of the options whose rates they take."""
    declared = find_option("stage", stage), find_option("method", method)
    like: str = getattr(declared[1], "lr_like", "full")
    own: Mapping[str, LrRow] = getattr(declared[0], "lr_rows", {})
    return own.get(like) or own.get("full") or TABLE[getattr(declared[0], "lr_like", "sft"), like]


def size_class(billions: float | None) -> int:
    """The column for a model size; an unknown size counts as 7 billion, where a rate too high does most harm."""
    size = 7.0 if billions is None else billions
    return sum(size > top for top in SIZES)


def _factor(run: RunConfig) -> float:
    times: float = run.optim.lr_factor[0] * run.method.lr_factor
    return times


def usual(run: RunConfig) -> Range:
    """The usual range of `optim.lr` under this run's stage, method, model size and optimizer."""
    own = run.optim.own_rate()
    return own[1] if own else _usual(run, _factor(run))


def usual_adam(run: RunConfig) -> Range:
    """The usual range of the rate of what goes by AdamW beside another optimizer."""
    return _usual(run, 1.0)


def _usual(run: RunConfig, factor: float) -> Range:
    found = row(run.stage.name, run.method.name)
    span = found.usual_small if size_class(run.model.billions()) < 2 else found.usual_large
    return Range((span.low or 0) * factor, min((span.high or 1) * factor, 1.0))


def recommend(run: RunConfig, facts: Facts) -> Derived:
    """The rate where `optim.lr` is empty, with its reason."""
    own = run.optim.own_rate()
    return own[0] if own else _recommend(run, _factor(run))


def recommend_adam(run: RunConfig, facts: Facts) -> Derived:
    """Muon's `optim.adam_lr` where it is empty, with its reason."""
    if run.optim.own_rate():
        return _recommend(run, 1.0)
    return Derived(run.optim.lr, "optim.lr: under optim.scale=rms Muon's steps have the size of AdamW's")


def _recommend(run: RunConfig, factor: float) -> Derived:
    stage, method, size = run.stage.name, run.method.name, run.model.billions()
    found = row(stage, method)
    rate = min(found.rates[size_class(size)] * factor, 1.0)
    what = "a model of unknown size (taken as 7B)" if size is None else f"a model of {size:.3g}B parameters"
    names = [run.optim.name] if run.optim.lr_factor[1] else []
    names += [method] if run.method.lr_factor != 1 else []
    times = f", times {factor:g} for {' and '.join(names)}" if factor != 1 else ""
    like = (
        ""
        if run.stage.lr_rows or stage == run.stage.lr_like
        else f", whose rates are taken to be those of stage={run.stage.lr_like}"
    )
    return Derived(rate, f"{stage} with {method} on {what}{times}{like}: {found.source}")
