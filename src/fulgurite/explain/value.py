"""Judges a value of one parameter, given the options of a run: within its usual range, or by how much outside of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fulgurite.config.check_value import check
from fulgurite.config.facts import Facts
from fulgurite.config.resolve import fill_run
from fulgurite.config.schema import Knob, Range, describe_type, list_options, strip_none
from fulgurite.errors import ConfigError
from fulgurite.explain.choices import read_default_options
from fulgurite.explain.knob_index import build_default_run, list_every_knob
from fulgurite.explain.layout import format_kind, format_usual, format_value
from fulgurite.language.message import UserMessage, message

CONTEXT = ("stage", "method", "optim", "model")
"""The groups on which usual values depend, in the order in which they are printed."""


def split_context(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Returns the words to explain, and the options and values beside them: `optim.lr=1e-5 stage=dpo` has one of each.

    The first value is explained; without a value every word is.
    """
    if not any("=" in word and "." in word.partition("=")[0] for word in words):
        return list(words), {}
    chosen = {}
    rest: list[str] = []
    for word in words:
        group, _, option = word.partition("=")
        if option in list_options(group) or (option and "." in group and rest):
            chosen[group] = option
        else:
            rest.append(word)
    return rest, chosen


def judge_value(knobs: Sequence[Knob], text: str, chosen: Mapping[str, str]) -> UserMessage:
    """Returns what a run with the `chosen` options makes of the value `text` of a parameter, which options share.

    Raises ConfigError for a value that is not legal, and for options that have no such parameter.
    """
    group = knobs[0].group.partition(".")[0]
    options: dict[str, str] = {**read_default_options(), **chosen}
    owner = options.get(group, "")
    # the declaration of the chosen option; a parameter of the run itself belongs to none
    knob = next((k for k in knobs if k.option in (owner, "")), None)
    if knob is None:
        if group in chosen:
            path = knobs[0].path
            raise ConfigError("{group}={option} has no parameter {path}.", group=group, option=owner, path=path)
        knob, options = knobs[0], options | {group: knobs[0].option}
    value = _read(knob, text)
    check(knob, value)
    run = build_default_run(**{name: options[name] for name in options if options[name] in list_options(name)})
    known = {knob.path: knob for knob in list_every_knob()}
    for path, given in chosen.items():  # values beside the one that is judged, such as stage.loss
        name = path.rpartition(".")[2]
        option = getattr(run, path.partition(".")[0], None)
        if "." in path and path in known and hasattr(option, name):
            setattr(option, name, _read(known[path], given))
    run, decisions = fill_run(run, Facts())
    derived = next((decision for decision in decisions if decision.parameter == knob.path), None)
    names = [f"{name}={options[name]}" for name in CONTEXT if name in options]
    names += [f"{path}={given}" for path, given in chosen.items() if "." in path]
    sentence = _compare(knob, value, knob.find_usual(run), " ".join(names))
    if derived is None or derived.value is None or derived.value == value:
        return sentence
    return message(
        "{sentence} Empty, it is {derived} there: {reason}.",
        sentence=sentence, derived=format_value(derived.value), reason=derived.because,
    )


def _read(knob: Knob, text: str) -> Any:
    kind = strip_none(knob.type)
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        return kind(text) if kind in (int, float) else text
    except (ValueError, KeyError) as error:
        kinds = format_kind(describe_type(kind))
        raise ConfigError("{path}={text} must be: {kind}.", path=knob.path, text=text, kind=kinds) from error


def _compare(knob: Knob, value: Any, usual: Any, context: str) -> UserMessage:
    facts = {"path": knob.path, "value": format_value(value), "context": context}
    if usual is None or not isinstance(value, int | float) or isinstance(value, bool):
        return message("{path}={value} is allowed; no range is usual for it.", **facts)
    facts["usual"] = format_usual(usual)
    # of a list of usual values only the smallest and the largest count
    low, high = (usual.low, usual.high) if isinstance(usual, Range) else (min(usual), max(usual))
    if low is not None and value < low:
        times = _format_times(low / value) if value > 0 else ""
        far = message(
            "{path}={value} is {times} times below what is usual with {context}: {usual}.", times=times, **facts
        )
        near = message("{path}={value} is below what is usual with {context}: {usual}.", **facts)
        return far if times else near
    if high is not None and value > high:
        times = _format_times(value / high) if high > 0 else ""
        far = message(
            "{path}={value} is {times} times above what is usual with {context}: {usual}.", times=times, **facts
        )
        near = message("{path}={value} is above what is usual with {context}: {usual}.", **facts)
        return far if times else near
    return message("{path}={value} is usual with {context}: {usual}.", **facts)


def _format_times(times: float) -> str:
    """Returns how many times as text; an empty text if it is not worth a number."""
    return "" if times < 2 else f"{times:,.0f}" if times >= 10 else f"{times:.2g}"
