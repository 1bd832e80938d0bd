"""Finds parameters by name, merges those that options share, and returns them in contexts and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from typing import Any

from fulgurite.config.average_arguments import Average
from fulgurite.config.chat_arguments import ChatConfig
from fulgurite.config.confidence import Sure
from fulgurite.config.decision import Decision
from fulgurite.config.eval_arguments import EvalSettings
from fulgurite.config.export_arguments import Export
from fulgurite.config.facts import Facts
from fulgurite.config.losses import list_losses
from fulgurite.config.resolve import fill_run
from fulgurite.config.run import SEVERAL, RunConfig, list_all_knobs
from fulgurite.config.schema import Knob, Range, Usual, describe_kind, list_knobs, list_options
from fulgurite.config.serve_arguments import Serve
from fulgurite.explain.choices import read_default_options
from fulgurite.explain.citations import find_links
from fulgurite.language.catalogue import translate_text

COMMANDS: dict[str, type] = {
    "chat": ChatConfig, "eval": EvalSettings, "export": Export, "average": Average, "serve": Serve,
}
"""The parameters of commands other than `train`, which are written without the command's name."""

LARGE = "hf"
"""The model option of a large model: without a path its size is unknown, and the rules take it for 7B."""


METHODS = ("full", "lora")
"""The methods under which knobs are shown: the others take the values of one of them, or a multiple that the rule
names."""


@dataclass(frozen=True, slots=True)
class Shared:
    """One declaration and the options that have it."""

    knob: Knob
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Context:
    """A parameter under other choices: its usual values, and its value if it is empty."""

    stage: str
    method: str
    model: str
    usual: Usual | None
    derived: Decision | None
    loss: str = ""
    """The loss of the stage, if the usual values depend on it; they then depend on nothing else."""


@cache
def list_every_knob() -> tuple[Knob, ...]:
    """Every declared knob, one an option: those of a run, then those of the other commands."""
    return (*list_all_knobs(), *(knob for cls in COMMANDS.values() for knob in list_knobs(cls)))


def merge_knobs(knobs: Iterable[Knob]) -> list[Shared]:
    """Equal declarations of several options as one, in the order of their first."""
    found: dict[str, tuple[Knob, list[str]]] = {}
    for knob in knobs:
        # the key is the whole declaration but its option
        found.setdefault(f"{knob.path} {replace(knob, option='')}", (knob, []))[1].append(knob.option)
    return [Shared(knob, tuple(names)) for knob, names in found.values()]


def build_default_run(**chosen: str) -> RunConfig:
    """The run that `fulgurite train` starts without a word, with the options that `chosen` names; not filled."""
    picks = {group: name for group, name in (read_default_options() | chosen).items() if name in list_options(group)}
    made: dict[str, Any] = {group: list_options(group)[name]() for group, name in picks.items() if group not in SEVERAL}
    return RunConfig(**made)


def list_contexts(knob: Knob) -> list[Context]:
    """The knob under each stage, method and model size (the default's and a large one), its own option kept."""
    group = knob.group.partition(".")[0]
    if by_loss := _list_loss_contexts(knob):
        return by_loss
    out = []
    for stage in list_options("stage"):
        for method in METHODS:
            for model in (read_default_options()["model"], LARGE):
                chosen = {"stage": stage, "method": method, "model": model}
                if chosen.setdefault(group, knob.option) != knob.option:
                    continue
                run = build_default_run(**chosen)
                run, decisions = fill_run(run, Facts())
                derived = next((decision for decision in decisions if decision.parameter == knob.path), None)
                out.append(Context(stage, method, model, knob.find_usual(run), derived))
    return out


def _list_loss_contexts(knob: Knob) -> list[Context]:
    """A parameter of a stage under each of its losses that reads it; none if all losses have the same usual values."""
    stage = list_options("stage").get(knob.option) if knob.group == "stage" else None
    family = getattr(stage, "losses", "")
    base, out, found = build_default_run(**({"stage": knob.option} if family else {})), [], set()
    for loss in list_losses(family) if family else ():
        run, decisions = fill_run(replace(base, stage=replace(base.stage, loss=loss)), Facts())
        derived = next((decision for decision in decisions if decision.parameter == knob.path), None)
        usual = knob.find_usual(run)
        found.add(str(usual))
        if usual is not None:
            out.append(Context(base.stage.name, base.method.name, base.model.name, usual, derived, loss))
    return out if len(found) > 1 else []


def derive_default(knob: Knob) -> Decision | None:
    """Returns the value of an empty parameter in the default run, if it depends on the config alone."""
    if knob.empty is None or knob.default is not None:
        return None
    group = knob.group.partition(".")[0]
    run = (
        build_default_run()
        if read_default_options().get(group, "") == knob.option
        else build_default_run(**{group: knob.option})
    )
    if knob.path != "trainer.devices":
        # counting the GPUs loads torch, and a page must be the same on every machine
        run = replace(run, trainer=replace(run.trainer, devices=1))
    return next((found for found in fill_run(run, Facts())[1] if found.parameter == knob.path), None)


def find_sure(knob: Knob) -> Sure | None:
    """Returns how sure the value is that the page shows: the derived one's, if its rule knows."""
    derived = derive_default(knob)
    return derived.sure if derived and derived.sure else knob.sure


def build_entries(knobs: Sequence[Knob] | None = None) -> list[dict[str, Any]]:
    """One entry an option's knob; all of them if none are given. Values are plain JSON.

    `sure` is measured, verified, paper, practice or ours; `interacts` other knobs with a few words each.
    `bounds` and a range under `usual` are {low, high, open_low, open_high}. A list under `usual` is {values: [...]};
    if the usual depends on the run it is {by: [{stage, method, model, usual, value, sure}]}, with `loss` if it depends
    on that. `empty` is {words, needs}.
    """
    return [_build_entry(knob) for knob in (list_every_knob() if knobs is None else knobs)]


def _build_entry(knob: Knob) -> dict[str, Any]:
    def read(name: str) -> str:
        return translate_text(knob.path, name, getattr(knob, name))

    sure = find_sure(knob)
    empty = knob.empty and {
        "words": translate_text(knob.path, "empty", knob.empty.words),
        "needs": knob.empty.needs if knob.empty.rule else None,
    }
    return {
        "knob": knob.path,
        "group": knob.group.partition(".")[0],
        "option": knob.option,
        "type": describe_kind(knob),
        "default": to_plain(knob.default),
        "meaning": read("meaning"),
        "source": knob.source,
        "sure": sure and sure.value,
        "links": [address for _, address in find_links(knob.source)],
        "advice": read("advice"),
        "raise_when": read("raise_when"),
        "lower_when": read("lower_when"),
        "leave": read("leave"),
        "interacts": {
            other: translate_text(knob.path, f"interacts {other}", words) for other, words in knob.interacts.items()
        },
        "memory": read("memory"),
        "time": read("time"),
        "misread": read("misread"),
        "bounds": _describe_usual(knob.bounds),
        "usual": {"by": [_describe_context(c) for c in list_contexts(knob)]}
        if callable(knob.usual)
        else _describe_usual(knob.usual),
        "empty": empty,
    }


def _describe_context(context: Context) -> dict[str, Any]:
    where = {"stage": context.stage, "method": context.method, "model": context.model}
    where |= {"loss": context.loss} if context.loss else {}
    return where | {
        "usual": _describe_usual(context.usual),
        "value": to_plain(context.derived.value) if context.derived else None,
        "sure": context.derived.sure and context.derived.sure.value if context.derived else None,
    }


def _describe_usual(usual: Usual | None) -> dict[str, Any] | None:
    if usual is None:
        return None
    if isinstance(usual, Range):
        return {n: getattr(usual, n) for n in ("low", "high", "open_low", "open_high")}
    return {"values": [to_plain(v) for v in usual]}


def to_plain(value: Any) -> Any:
    """The value as JSON has it."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, list | tuple):
        return [to_plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): to_plain(v) for k, v in value.items()}
    return value
