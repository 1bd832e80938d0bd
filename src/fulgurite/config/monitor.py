"""The rules by which a run is watched, and the knob that silences one. Light: `compose` refuses unknown names by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from fulgurite.config.schema import knob
from fulgurite.errors import ConfigError, did_you_mean


class Severity(StrEnum):
    """What becomes of a run of which something is said: it stops with exit 3, or goes on."""

    stop = "stop"
    warning = "warning"
    note = "note"


@dataclass(frozen=True, slots=True)
class Rule:
    """What a rule looks at, when it speaks, and how gravely; a finding may be milder than its rule."""

    severity: Severity
    when: str


RULES: dict[str, Rule] = {
    "step-zero": Rule(Severity.stop, "The first loss is not what an untrained adapter or head on this model gives (sft, pt, rm)."),
    "labels-empty": Rule(Severity.stop, "A step has no label token to learn from; in grpo and ppo a warning."),
    "loss-zero": Rule(Severity.stop, "Three losses in a row are zero though there are labels; a warning where pairs are compared."),
    "above-chance": Rule(Severity.stop, "The loss stays above ln(vocabulary), the loss of a model that has learned nothing (sft, pt)."),
    "val-not-finite": Rule(Severity.stop, "The validation loss is not a finite number."),
    "spike": Rule(Severity.warning, "The loss jumps far above its level, by more than the noise between steps explains."),
    "diverged": Rule(Severity.warning, "The loss is clearly higher than in the first steps, or above ln(vocabulary) (sft, pt)."),
    "plateau": Rule(Severity.warning, "The loss has not fallen in the first hundred steps after the warmup."),
    "overfit": Rule(Severity.note, "The validation loss rose three evaluations running while the training loss fell."),
    "clip-share": Rule(Severity.warning, "More than half of the steps after the warmup were clipped."),
    "norm-high": Rule(Severity.warning, "The gradient norm stays above 100, or above 1,000 three steps in a row."),
    "adapter-moves": Rule(Severity.warning, "The optimizer steps and the weights do not move."),
    "rounded-away": Rule(Severity.warning, "More than half of the bf16 weights stay as they were, step after step (rounding=nearest)."),
    "update-high": Rule(Severity.warning, "A step changes the weights by a share that no usual rate gives."),
    "dpo-falls": Rule(Severity.note, "Chosen answers get less likely while the margin grows."),
    "dpo-wrong": Rule(Severity.warning, "The rejected answer is preferred more often than chance explains."),
    "rm-stuck": Rule(Severity.warning, "A reward model's accuracy cannot be told from guessing."),
    "ties": Rule(Severity.warning, "Nearly all groups of answers have one reward, so that nothing can be learned from them (grpo)."),
    "samples-endless": Rule(Severity.warning, "Sampled answers reach the limit though the trained ones are shorter."),
    "samples-collapse": Rule(Severity.warning, "Sampled answers are all empty, all one token repeated, or all the same."),
    "samples-repeat": Rule(Severity.warning, "Sampled answers repeat themselves."),
    "before-after": Rule(Severity.warning, "The model answers the sample prompts as before."),
    "data-waits": Rule(Severity.warning, "A step waits longer for its data than it computes."),
}
"""By id. What stages hold by themselves, and stop for: a dpo or kto loss that is not its own value at policy = reference, a ratio
or divergence that is not 1 and 0 at the first step, a divergence that runs away (ppo 10 nats an answer, grpo 2 a token) or is below
zero, sampling from another policy, a loss or norm that is not finite."""


@dataclass(slots=True)
class Monitor:
    """What is said while a run trains."""

    room: ClassVar[str] = "monitor"

    ignore: list[str] = knob(
        [], "Rules that watch the run and shall keep silent, by id.", source="Ours",
        advice="Each sentence names its rule. Silence one that you have understood: monitor.ignore=[clip-share].",
    )


def check_ignored(names: Sequence[str]) -> None:
    """Raise ConfigError where a rule is named that there is not."""
    for name in names:
        if name not in RULES:
            raise ConfigError(f"monitor.ignore={name} names no rule.{did_you_mean(name, RULES)} There are: "
                f"{', '.join(RULES)}.")
