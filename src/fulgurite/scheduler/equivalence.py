"""Finds schedules that are the same curve under another name, by comparing the curves, not from a list. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

from fulgurite.config.schema import Range, build, list_knobs, list_options, strip_none
from fulgurite.errors import ConfigError
from fulgurite.language.message import UserMessage, message
from fulgurite.scheduler.config import Scheduler
from fulgurite.scheduler.curves import Curve

NEAR = 0.01
"""The largest distance, as a share of the peak rate, at which two curves count as the same."""

_POINTS = 2000
"""Maximum number of steps that are compared, evenly spread: enough for every bend, and fast for any run."""


def fill_config(config: Scheduler, total: int) -> Scheduler:
    """Returns a copy whose empty knobs (warmup, timescale) are filled by their own rules for a run of `total` steps."""
    # The rules take these; run.py is above this file in the layers and loads no group.
    from fulgurite.config.facts import Facts
    from fulgurite.config.run import RunConfig

    for knob in list_knobs(type(config)):
        if getattr(config, knob.name) is None and knob.empty is not None and knob.empty.rule is not None:
            derived = knob.empty.rule(RunConfig(scheduler=config), Facts(total_steps=total))
            config = replace(config, **{knob.name: derived.value})
    return config


def build_curve(config: Scheduler, total: int, lr: float) -> Curve:
    """Builds the curve that trains under `config`, with empty knobs filled."""
    built: Curve = build(fill_config(config, total), total=total, lr=lr)
    return built


def find_same(config: Scheduler, total: int, lr: float) -> list[tuple[str, float]]:
    """Returns the other schedules within 1 % of the peak rate of this one at every step, with the distance, nearest
    first.

    Knobs that both have (warmup, min_ratio) take this one's value, the rest their defaults.
    """
    return [(other.name, distance) for other, distance in _near(config, total, lr)]


def describe_same(config: Scheduler, total: int, lr: float) -> list[UserMessage]:
    """Returns a sentence for each other schedule that follows the same curve in this run."""
    return [
        message(
            "In this run scheduler={name} follows the same curve as scheduler={other}, {closeness}.",
            name=config.name, other=other, closeness=_describe_closeness(distance),
        )
        for other, distance in find_same(config, total, lr)
    ]


@dataclass(frozen=True, slots=True)
class Coincidence:
    """Two schedules, with their parameters, that are one curve within `distance`, a share of the peak rate."""

    one: str
    other: str
    distance: float

    def __str__(self) -> str:
        closeness = _describe_closeness(self.distance)
        return str(
            message("{one} is the same curve as {other}, {closeness}.", one=self.one, other=self.other,
                    closeness=closeness)
        )


def find_coincidences(name: str, total: int = 1000, lr: float = 1e-4) -> list[Coincidence]:
    """Returns the values of the schedule's knobs, or of another's, at which the two are the same curve.

    Tries every number knob at 0 and at 1, if its bounds allow: such formulas collapse at these values.
    """
    pairs: dict[frozenset[str], Coincidence] = {}
    for owner in _curves():
        for config in _trials(owner):
            for other, distance in _near(config, total, lr, None if owner.name == name else name):
                found = Coincidence(_words(config, total), _words(other, total), distance)
                # Each pair once: the first trial that shows it is the plainest.
                pairs.setdefault(frozenset((owner.name, other.name)), found)
    return list(pairs.values())


def _near(config: Scheduler, total: int, lr: float, only: str | None = None) -> list[tuple[Scheduler, float]]:
    """Returns the other schedules (or the one called `only`) within NEAR, with the distance, nearest first."""
    if config.monitors:
        return []
    try:
        mine = _sampled(build_curve(config, total, lr), total)
    except ConfigError:  # a curve that cannot be built (lr_end above lr) coincides with nothing
        return []
    others = (other for other in _others(fill_config(config, total)) if only in (None, other.name))
    found = [(other, _distance(mine, other, total, lr)) for other in others]
    return sorted(((other, d) for other, d in found if d <= NEAR), key=lambda pair: pair[1])


def _curves() -> list[type[Scheduler]]:
    """The registered schedules that are curves."""
    return [cls for cls in list_options("scheduler").values() if issubclass(cls, Scheduler) and not cls.monitors]


def _others(config: Scheduler) -> Iterator[Scheduler]:
    """Yields each other schedule, with this one's values for the knobs that both have, and the same warmup."""
    mine = {f.name: getattr(config, f.name) for f in fields(config)}
    # A schedule without a warmup is compared with others at a warmup of 0.
    mine.setdefault("warmup_steps", 0)
    for cls in _curves():
        if cls.name != config.name:
            yield cls(**{f.name: mine[f.name] for f in fields(cls) if f.name in mine})


def _trials(cls: type[Scheduler]) -> Iterator[Scheduler]:
    """Yields the schedule as it is, then with one number knob at 0 or 1."""
    yield cls()
    for knob in list_knobs(cls):
        for value in (0, 1):
            if strip_none(knob.type) in (int, float) and (knob.bounds or Range()).has(value):
                yield replace(cls(), **{knob.name: value})


def _words(config: Scheduler, total: int) -> str:
    """Returns the overrides that make `config`: the option, and the knobs that differ from its defaults."""
    plain, given = fill_config(type(config)(), total), fill_config(config, total)
    changed = [f.name for f in fields(given) if getattr(given, f.name) != getattr(plain, f.name)]
    return " ".join([f"scheduler={config.name}", *(f"scheduler.{n}={getattr(given, n):g}" for n in changed)])


def _sampled(curve: Curve, total: int) -> list[float]:
    return [curve(step) for step in _steps(total)]


def _steps(total: int) -> range:
    return range(0, total, max(1, total // _POINTS))


def _distance(mine: list[float], other: Scheduler, total: int, lr: float) -> float:
    """Returns the largest distance, or infinity as soon as one is beyond NEAR."""
    try:
        theirs = build_curve(other, total, lr)
    except ConfigError:  # the other curve cannot be built at this rate
        return math.inf
    largest = 0.0
    for step, value in zip(_steps(total), mine, strict=True):
        largest = max(largest, abs(value - theirs(step)))
        # Most pairs differ within a few steps: nothing further is computed.
        if largest > NEAR:
            return math.inf
    return largest


def _describe_closeness(distance: float) -> UserMessage:
    if distance < 1e-9:  # equal up to rounding
        return message("exactly")
    return message("to within {percent:.2g} % of the peak rate", percent=100 * distance)
