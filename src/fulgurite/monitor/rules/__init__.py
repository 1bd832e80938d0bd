"""The rules: each a pure function of `Seen`, one file a theme. `found` asks those of a moment."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from importlib import import_module

from fulgurite.config.monitor import RULES, Severity
from fulgurite.monitor.history import Seen


class Moment(StrEnum):
    """When a rule is asked: after each optimizer step, evaluation, and set of samples; at the end of the run."""

    step = "step"
    evaluation = "evaluation"
    samples = "samples"
    end = "end"


@dataclass(slots=True)
class Finding:
    """What is wrong, one sentence, and what to do, one more; the numbers behind it. `severity` where it is milder than its rule's."""

    sentence: str
    remedy: str
    values: dict[str, float | int | str] = field(default_factory=dict)
    severity: Severity | None = None


Judge = Callable[[Seen], Finding | None]
THEMES = ("first_step", "loss_curve", "step_size", "preferences", "samples", "throughput")
_judges: dict[Moment, dict[str, Judge]] = {moment: {} for moment in Moment}


def rule(name: str, at: Moment) -> Callable[[Judge], Judge]:
    """Register the function of a rule that `config.RULES` lists."""

    def register(judge: Judge) -> Judge:
        assert name in RULES, name
        _judges[at][name] = judge
        return judge

    return register


def judges(at: Moment) -> dict[str, Judge]:
    """The rules of a moment by id."""
    for theme in THEMES:
        import_module(f"{__name__}.{theme}")
    return _judges[at]


def found(seen: Seen, at: Moment, but: Collection[str] = ()) -> Iterator[tuple[str, Finding]]:
    """What the rules of a moment find, but for those that keep silent."""
    for name, judge in judges(at).items():
        if name not in but and (finding := judge(seen)) is not None:
            yield name, finding
