"""A composed run: its typed config, and for each parameter where the value came from."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from fulgurite.config.run import Facts, RunConfig
from fulgurite.config.schema import Knob, Option, settings

PRESETS = ("experiment", "sweep", "find", "debug")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a knob's value came from: "default", "preset", "command line" or "derived", with the reason in words."""

    value: Any
    origin: str
    reason: str = ""


@dataclass(slots=True)
class Composed:
    """A typed run with, for each knob, where its value came from; `warnings` are the values outside the usual."""

    run: RunConfig
    choices: dict[str, str]
    provenance: dict[str, Origin]
    overrides: list[str]
    multirun: bool = False
    warnings: list[str] = field(default_factory=list)

    def fill(self, facts: Facts, needs: str) -> list[str]:
        """Fill the empty knobs whose rule needs `needs`; their names are returned, and their reasons kept."""
        filled = []
        for knob, value in settings(self.run):
            if value is None and knob.empty is not None and knob.empty.rule is not None and knob.empty.needs == needs:
                derived = knob.empty.rule(self.run, facts)
                place(self.run, knob.path, derived.value)
                self.provenance[knob.path] = Origin(derived.value, "derived", derived.reason)
                filled.append(knob.path)
        return filled

    def config(self) -> dict[str, Any]:
        """The whole config as plain values, each group with its option's name under `option`: enough to run it again."""
        found: dict[str, Any] = plain(self.run)
        return found


def place(run: RunConfig, path: str, value: Any) -> None:
    """Set the knob at a dotted path; a part of the path may be a key of a mapping (`logger.wandb.project`)."""
    node: Any = run
    *parents, last = path.split(".")
    for name in parents:
        node = node[name] if isinstance(node, dict) else getattr(node, name)
    setattr(node, last, value)


def plain(node: Any) -> Any:
    """Dataclasses as mappings of plain JSON values; an option's name goes under `option`."""
    if is_dataclass(node):
        head = {"option": type(node).name} if isinstance(node, Option) else {}
        return head | {f.name: plain(getattr(node, f.name)) for f in fields(node)}
    if isinstance(node, dict):
        return {key: plain(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [plain(value) for value in node]
    return str(node) if isinstance(node, str) else node


def origin_of(knob: Knob, value: Any, said: set[str], choices: dict[str, str]) -> Origin:
    """Finds where a composed value came from: the command line (`said`), a preset (`choices`), or the default."""
    shown = plain(value)
    if knob.path in said or any(s.startswith(knob.path + ".") for s in said):
        return Origin(shown, "command line")
    if value == knob.default:
        return Origin(shown, "default", knob.empty.words if value is None and knob.empty else "")
    group = knob.path.partition(".")[0]
    presets = [f"{p}={choices[p]}" for p in PRESETS if choices.get(p, "None") != "None"]
    return Origin(shown, "preset", f"conf/{group}/{choices.get(group)}.yaml" if not presets else ", ".join(presets))
