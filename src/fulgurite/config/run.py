"""A run's whole configuration: one field a group."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from fulgurite.config.frozen import Freezable
from fulgurite.config.lr_finder import LrFinder
from fulgurite.config.monitor import Monitor
from fulgurite.config.schema import Empty, Knob, Option, knob, list_groups, list_knobs
from fulgurite.config.schema import between as _between
from fulgurite.config.sweep import Sweep

GROUPS = (
    "stage", "method", "optim", "scheduler", "precision", "privacy", "model", "data", "trainer", "strategy", "launcher",
    "callback", "logger",
)
"""The groups whose options ship with the package, in the order in which a person chooses."""
PRESETS = ("experiment", "sweep", "find", "debug")
"""Groups of files that set values in other groups."""
SEVERAL = ("callback", "logger")
"""Those of which a run may choose several options."""
EARLIER: dict[str, Any] = {
    "privacy": {"option": "none"}, "strategy": {"option": "auto"}, "launcher": {"option": "local"},
    "callback": {name: {"option": name} for name in ("samples", "progress", "monitor")},
}
"""What runs had whose config.yaml was written before there was such a group."""


@dataclass(slots=True)
class Resume(Freezable):
    """Going on with an earlier run."""

    room: ClassVar[str] = "resume"

    run: str | None = knob(
        None, "The run folder to go on with, from its newest whole checkpoint.",
        source="Ours", advice="The same command again with run_dir=... resumes as well.",
        empty=Empty("a new run, or the checkpoint that run_dir already has"),
    )
    allow: list[str] = knob(
        [],
        "Knobs that may differ from the run that is resumed; also weights, model_config, tokenizer, reference, "
        "adapter and reward, whose files are compared by hash.",
        source="Ours: other trainers resume under a changed config without a word",
        advice="Name only what you changed on purpose: resume.allow=[trainer.epochs].",
    )


@dataclass(slots=True)
class Plan(Freezable):
    """What the rules of `fulgurite plan` may not refuse."""

    room: ClassVar[str] = "plan"

    allow: list[str] = knob(
        [], "Rules of `fulgurite plan` whose findings do not stop the run.",
        source="Ours: the exceptions are named, and the run's folder keeps them",
        advice="Name the rule that refused, once you know why: plan.allow=[steps.too-few]. "
        "`fulgurite plan --rules` lists them.",
    )


@dataclass(slots=True)
class RunConfig(Freezable):
    """The root: one field a group, then what belongs to the run itself."""

    stage: Any = None
    method: Any = None
    optim: Any = None
    scheduler: Any = None
    precision: Any = None
    privacy: Any = None
    model: Any = None
    data: Any = None
    trainer: Any = None
    strategy: Any = None
    launcher: Any = None
    callback: dict[str, Any] = field(default_factory=dict)
    logger: dict[str, Any] = field(default_factory=dict)
    resume: Resume = field(default_factory=Resume)
    plan: Plan = field(default_factory=Plan)
    monitor: Monitor = field(default_factory=Monitor)
    sweep: Sweep = field(default_factory=Sweep)
    lr_finder: LrFinder = field(default_factory=LrFinder)

    seed: int = knob(
        42, "The seed of every random draw: order, adapter, dropout, samples.", source="Ours",
        bounds=_between(0, 2**32 - 1),
        usual=(1, 2, 3), advice="One run proves little: repeat with 3 seeds before you believe a gain of 1 %.",
        leave="No seed is better than another. Repeat a run with 3 seeds before you believe a gain of 1 %.",
    )
    name: str | None = knob(
        None, "The run's name, part of its folder's.", source="Ours",
        advice="Letters, digits, dot, dash, underscore; at most 64.",
        empty=Empty("stage, method and model, joined by dashes"),
    )
    run_dir: str | None = knob(
        None, "The run's folder.", source="Ours", advice="Give it in scripts, so that they know where to look.",
        empty=Empty("runs/<date>/<time>_<name>"),
    )
    plugins: list[str] = knob(
        [], "Python modules to import first; they register options of their own.", source="Ours",
        advice="An installed package needs no mention: its entry point fulgurite.options is found.",
    )

    def list_options(self) -> Iterator[Option]:
        """Every option of the run, group by group."""
        for group in fields(self):
            value = getattr(self, group.name)
            for option in value.values() if isinstance(value, dict) else [value]:
                if isinstance(option, Option):
                    yield option

    @property
    def private(self) -> bool:
        """Whether each row's gradient is clipped for itself and noise is added."""
        return bool(getattr(self.privacy, "by_row", False))

    @property
    def world_size(self) -> int:
        """How many processes share each step: one for each device of each machine."""
        return (self.trainer.devices or 1) * (self.trainer.num_nodes or 1)


OWN: dict[str, type] = {"resume": Resume, "plan": Plan, "monitor": Monitor, "sweep": Sweep, "lr_finder": LrFinder}
"""What belongs to the run itself and has knobs of its own."""


@functools.cache
def load_options() -> None:
    """Import every config module of the package, and those that installed packages offer under `fulgurite.options`."""
    for group in GROUPS:
        importlib.import_module(f"fulgurite.{group}.config")
    from importlib.metadata import entry_points

    for entry in entry_points(group="fulgurite.options"):
        entry.load()


def list_all_knobs() -> list[Knob]:
    """Every knob of every option, then the root's."""
    return list(_walk_all_knobs())


def _walk_all_knobs() -> Iterator[Knob]:
    load_options()
    for _group, named in list_groups().items():
        for cls in named.values():
            yield from list_knobs(cls)
    yield from list_knobs(RunConfig)
    for cls in OWN.values():
        yield from list_knobs(cls)
