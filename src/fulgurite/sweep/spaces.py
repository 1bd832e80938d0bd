"""What is searched: one list of spaces, from which conf/sweep and sweeps/wandb are written; ranges are the knobs'
`usual`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fulgurite.config.renamed import describe_renamed, map_names
from fulgurite.config.schema import Knob, Range, Usual, strip_none
from fulgurite.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Space:
    """Choices that are fixed, and the knobs that are searched, the most telling first."""

    summary: str
    choices: dict[str, str]
    knobs: tuple[str, ...]
    metric: str = "val/loss"
    goal: str = "minimize"


LORA = ("optim.lr", "method.rank", "method.dropout", "scheduler.warmup_ratio", "trainer.global_batch_size")
FULL = ("optim.lr", "optim.weight_decay", "scheduler.warmup_ratio", "trainer.global_batch_size")

SPACES: dict[str, Space] = {
    "sft_lora": Space("Supervised fine-tuning with LoRA.", {"stage": "sft", "method": "lora"}, LORA),
    "sft_full": Space("Supervised fine-tuning of all weights.", {"stage": "sft", "method": "full"}, FULL),
    "pt_lora": Space("Running text with LoRA.", {"stage": "pt", "method": "lora"}, LORA),
    "rm_lora": Space("A reward model with LoRA.", {"stage": "rm", "method": "lora", "data": "guide_preference"}, LORA),
    "dpo_lora": Space(
        "DPO with LoRA. The loss is no measure here, because stage.beta scales it: the share of pairs put right is.",
        {"stage": "dpo", "method": "lora", "data": "guide_preference"},
        ("optim.lr", "stage.beta", "method.rank", "scheduler.warmup_ratio"), "val/accuracy", "maximize",
    ),
}


@dataclass(frozen=True, slots=True)
class Values:
    """One of a list."""

    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """A number between two ends, both included; drawn evenly in its logarithm where `log`."""

    low: float
    high: float
    log: bool = False
    whole: bool = False


def build_space(knob: Knob, usual: Usual | None) -> Values | Span:
    """What a search draws from a knob's usual values: a list as it is; a range evenly, or by
    logarithm if it spans ten.

    Raises ConfigError where the knob has none.
    """
    if isinstance(usual, tuple):
        return Values(usual)
    if not isinstance(usual, Range) or usual.low is None or usual.high is None:
        raise ConfigError(
            "{path} has no usual range to sweep over; leave it out, or declare its usual.",
            path=knob.path,
        )
    return Span(usual.low, usual.high, usual.low > 0 and usual.high / usual.low >= 10, strip_none(knob.type) is int)


def find_knob(settings: Iterable[tuple[Knob, Any]], stage: str, name: str) -> Knob:
    """The knob of that name among those of a run. Raises ConfigError where it has none."""
    for knob, _ in settings:
        if knob.path == name:
            return knob
    if name in (names := map_names({"stage": stage})):
        raise ConfigError(describe_renamed(name, names[name]))
    word = name.rpartition(".")[2]
    raise ConfigError(
        "{name} is not a parameter of this run; look for it with: fulgurite explain --search {word}",
        name=name, word=word,
    )
