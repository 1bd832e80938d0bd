"""The one table of learning rates, by stage, method and model size, with who uses each. No torch.

The derived value of `optim.lr`, its usual range, the rules of `plan` and `monitor`, the presets and the sweeps all read
it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fulgurite.config.confidence import Sure, grade_source
from fulgurite.config.losses import get_loss
from fulgurite.config.schema import Derived, Range, find_option
from fulgurite.language.message import UserMessage, message

if TYPE_CHECKING:
    from fulgurite.config.facts import Facts
    from fulgurite.config.run import RunConfig

SIZES = (0.5, 4.0, 14.0)
"""Upper ends of the size classes in billions of parameters; the last class is open."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A learning rate for one size class, its usual range, and who uses it."""

    value: float
    usual: Range
    source: UserMessage

    @property
    def sure(self) -> Sure | None:
        """How sure this value is, by the words of its own source."""
        return grade_source(self.source.template)


LrRow = tuple[Rate, Rate, Rate, Rate]
"""Rates for models up to 0.5, 4 and 14 billion parameters, and beyond."""

NO_RUN = message("ours: no published run of this size is known")
TEN_TIMES = message("ours: about ten times the rate of full fine-tuning")
KTO = message("TRL's KTO page: 5e-7 to 5e-6, never outside (verified)")
SHORT_RL = message("measured on the bundled 135M model in runs of 24 to 30 steps")

TABLE: dict[tuple[str, str], LrRow] = {
    ("pt", "full"): (
        Rate(2e-4, Range(2e-5, 3e-4), message("GPT-2 in Dutch 2e-4 (alignment-handbook, verified)")),
        Rate(5e-5, Range(2e-5, 3e-4), NO_RUN),
        Rate(2e-5, Range(5e-6, 5e-5), NO_RUN),
        Rate(1e-5, Range(5e-6, 5e-5), NO_RUN),
    ),
    ("pt", "lora"): (
        Rate(2e-4, Range(5e-5, 1e-3), NO_RUN),
        Rate(1e-4, Range(5e-5, 1e-3), message("LLaMA-Factory's example at 4B 1e-4 (verified)")),
        Rate(1e-4, Range(5e-5, 5e-4), NO_RUN),
        Rate(1e-4, Range(5e-5, 5e-4), NO_RUN),
    ),
    ("sft", "full"): (
        Rate(1e-4, Range(1e-5, 1e-3), message("ours: between SmolLM2-135M 1e-3 and torchtune at 0.5B 2e-5")),
        Rate(3e-5, Range(1e-5, 1e-3), message("ours: between SmolLM2-1.7B 3e-4 and SmolLM3-3B 2e-5")),
        Rate(
            1e-5, Range(2e-6, 2e-5), message("axolotl's docs 1e-5 to 5e-5, Zephyr 7B 2e-5, Tülu 3 8B 5e-6 (verified)")
        ),
        Rate(3e-6, Range(2e-6, 2e-5), message("ours: near Tülu 3 70B 2e-6")),
    ),
    ("sft", "lora"): (
        Rate(1e-3, Range(1e-4, 2e-3), message("measured on the guide with the bundled 135M model, one seed")),
        Rate(3e-4, Range(1e-4, 2e-3), message("torchtune at 3B 3e-4 (verified)")),
        Rate(2e-4, Range(1e-4, 3e-4), message("QLoRA at 7B and 13B and TRL's PEFT table 2e-4 (verified)")),
        Rate(1e-4, Range(1e-4, 3e-4), message("QLoRA above 13B 1e-4 (verified)")),
    ),
    ("ppo", "full"): (
        Rate(3e-6, Range(3e-7, 3e-6), NO_RUN),
        Rate(3e-6, Range(3e-7, 3e-6), message("TRL 3e-6 (verified)")),
        Rate(1e-6, Range(3e-7, 3e-6), message("practice: torchtune at 7B 1e-6 (unverified)")),
        Rate(3e-7, Range(3e-7, 3e-6), NO_RUN),
    ),
    ("ppo", "lora"): (
        Rate(3e-4, Range(1e-5, 5e-4), SHORT_RL),
        Rate(1e-5, Range(3e-6, 3e-5), TEN_TIMES),
        Rate(1e-5, Range(3e-6, 3e-5), TEN_TIMES),
        Rate(3e-6, Range(3e-6, 3e-5), TEN_TIMES),
    ),
    ("grpo", "full"): (
        Rate(1e-6, Range(3e-7, 5e-6), message("TRL 1e-6 (verified)")),
        Rate(1e-6, Range(3e-7, 5e-6), message("TRL 1e-6 (verified)")),
        Rate(1e-6, Range(3e-7, 5e-6), message("TRL 1e-6 (verified)")),
        Rate(3e-7, Range(3e-7, 5e-6), message("ours: as Tülu 3's RL at 8B, 3e-7")),
    ),
    ("grpo", "lora"): (
        Rate(3e-4, Range(1e-5, 5e-4), SHORT_RL),
        Rate(1e-5, Range(5e-6, 5e-5), message("TRL's PEFT table 1e-5, axolotl's example 5e-6 (verified)")),
        Rate(1e-5, Range(5e-6, 5e-5), message("TRL's PEFT table 1e-5, axolotl's example 5e-6 (verified)")),
        Rate(3e-6, Range(1e-6, 5e-5), TEN_TIMES),
    ),
    ("dpo", "full"): (
        Rate(1e-6, Range(5e-7, 2e-6), message("SmolLM2-135M 1e-6 (verified)")),
        Rate(1e-6, Range(5e-7, 2e-6), message("SmolLM2-1.7B 1e-6 (verified)")),
        Rate(5e-7, Range(2e-7, 1e-6), message("Zephyr 7B and Tülu 3 8B 5e-7 (verified)")),
        Rate(2e-7, Range(2e-7, 1e-6), message("Tülu 3 70B 2e-7 (verified)")),
    ),
    ("dpo", "lora"): (
        Rate(
            3e-4, Range(1e-5, 5e-4),
            message("measured on the bundled 135M model: at 5e-5, thirty steps moved the held-out margin by 0.01 only"),
        ),
        Rate(1e-5, Range(1e-6, 2e-5), message("ours: TRL's DPO page has about 1e-5")),
        Rate(5e-6, Range(1e-6, 1e-5), message("TRL's PEFT table and Zephyr's QLoRA 5e-6 (verified)")),
        Rate(2e-6, Range(1e-6, 1e-5), NO_RUN),
    ),
    ("kto", "full"): (
        Rate(1e-6, Range(5e-7, 5e-6), KTO),
        Rate(1e-6, Range(5e-7, 5e-6), KTO),
        Rate(1e-6, Range(5e-7, 5e-6), KTO),
        Rate(5e-7, Range(5e-7, 5e-6), KTO),
    ),
    ("kto", "lora"): (
        Rate(
            3e-4, Range(1e-5, 5e-4),
            message("measured on the bundled 135M model: at 5e-5 good and bad held-out answers did not part"),
        ),
        Rate(5e-6, Range(5e-7, 5e-6), KTO),
        Rate(5e-6, Range(5e-7, 5e-6), KTO),
        Rate(2e-6, Range(5e-7, 5e-6), KTO),
    ),
    ("rm", "full"): (
        Rate(1e-5, Range(3e-6, 3e-5), message("ours: as Llama 2, 1e-5 (unverified)")),
        Rate(1e-5, Range(3e-6, 3e-5), NO_RUN),
        Rate(5e-6, Range(3e-6, 1e-5), message("ours: near Tülu 3 8B 3e-6")),
        Rate(3e-6, Range(3e-6, 1e-5), message("ours: as Tülu 3 8B 3e-6")),
    ),
    ("rm", "lora"): (
        Rate(3e-4, Range(1e-4, 1e-3), message("ours: between LLaMA-Factory's example 1e-4 and TRL's page 1e-3")),
        Rate(1e-4, Range(1e-4, 1e-3), message("LLaMA-Factory's example 1e-4 (verified)")),
        Rate(1e-4, Range(1e-4, 1e-3), message("LLaMA-Factory's example 1e-4 (verified)")),
        Rate(1e-4, Range(1e-4, 1e-3), NO_RUN),
    ),
}

MUON_OWN = Derived(
    0.02, message("Muon with its own scale uses about 0.02 for every model (Muon's README, verified)"), Sure.verified
)
MUON_OWN_USUAL = Range(0.002, 0.05)


def row(stage: str, method: str) -> LrRow:
    """Returns the row of two declared options, by name: the stage's own, else that of the options whose rates they
    take."""
    declared = find_option("stage", stage), find_option("method", method)
    like: str = getattr(declared[1], "lr_like", "full")
    own: Mapping[str, LrRow] = getattr(declared[0], "lr_rows", {})
    return own.get(like) or own.get("full") or TABLE[getattr(declared[0], "lr_like", "sft"), like]


def find_size_class(billions: float | None) -> int:
    """Returns the column for a model size. An unknown size counts as 7 billion: a high rate does most harm there."""
    size = 7.0 if billions is None else billions
    return sum(size > top for top in SIZES)


def find_rate(run: RunConfig) -> Rate:
    """Returns the entry of the table for a run's stage, method and model size; of AdamW, before any factor."""
    return row(run.stage.name, run.method.name)[find_size_class(run.model.billions())]


def _factor(run: RunConfig) -> float:
    times: float = run.optim.lr_factor[0] * run.method.lr_factor
    return times


def usual(run: RunConfig) -> Range:
    """Returns the usual range of `optim.lr` under this run's stage, method, model size, loss and optimizer."""
    own = run.optim.own_rate()
    return own[1] if own else _usual(run, _factor(run))


def find_usual_adam(run: RunConfig) -> Range:
    """Returns the usual range of the rate of what AdamW trains beside another optimizer."""
    return _usual(run, 1.0)


def _usual(run: RunConfig, factor: float) -> Range:
    span = find_rate(run).usual
    high = span.high or 1.0
    if get_loss(run.stage).sft_weight:  # orpo and cpo contain supervised fine-tuning, and take its rates (8e-6, 1e-4)
        high = max(high, row("sft", run.method.name)[find_size_class(run.model.billions())].usual.high or 1.0)
    return Range((span.low or 0) * factor, min(high * factor, 1.0))


def recommend(run: RunConfig, facts: Facts) -> Derived:
    """Returns the rate for an empty `optim.lr`, with its reason."""
    own = run.optim.own_rate()
    return own[0] if own else _recommend(run, _factor(run))


def recommend_adam(run: RunConfig, facts: Facts) -> Derived:
    """Returns Muon's `optim.adam_lr` if it is empty, with its reason."""
    if run.optim.own_rate():
        return _recommend(run, 1.0)
    return Derived(run.optim.lr, message("optim.lr: with optim.scale=rms the updates of Muon have the size of AdamW's"))


def _recommend(run: RunConfig, factor: float) -> Derived:
    found = find_rate(run)
    rate = min(found.value * factor, 1.0)
    about = {"stage": _name_stage(run), "method": run.method.name, "model": _name_size(run.model.billions())}
    if factor == 1:
        reason = message("{stage} with {method} on {model}: {source}", **about, source=found.source)
        return Derived(rate, reason, found.sure)
    names = [run.optim.name] if run.optim.lr_factor[1] else []
    names += [run.method.name] if run.method.lr_factor != 1 else []
    reason = message(
        "{stage} with {method} on {model}, times {factor:g} for {names}: {source}",
        **about, factor=factor, names=", ".join(names), source=found.source,
    )
    return Derived(rate, reason, Sure.ours)


def _name_stage(run: RunConfig) -> str | UserMessage:
    stage, like = run.stage.name, run.stage.lr_like
    if run.stage.lr_rows or stage == like:
        return str(stage)
    return message("{stage} (rates as for stage={like})", stage=stage, like=like)


def _name_size(billions: float | None) -> UserMessage:
    if billions is None:
        return message("a model of unknown size (taken as 7B)")
    size = f"{billions:.3g}B" if billions >= 1 else f"{1000 * billions:.3g}M"
    return message("a model of {size} parameters", size=size)
