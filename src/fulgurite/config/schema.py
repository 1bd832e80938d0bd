"""Knobs and options: the one place where a parameter's type, default, limits, meaning, advice and source are written.

A knob is a dataclass field made by `knob`; an option is a slotted dataclass registered with `@option(group, name)`.
Everything else (command line, explain, plan, sweeps, the comments in conf/) is derived from these declarations.
Standard library only.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from enum import StrEnum
from typing import Any, TypeVar

from fulgurite.config.confidence import Sure, grade_source
from fulgurite.config.facts import Facts
from fulgurite.config.frozen import Freezable
from fulgurite.errors import ConfigError
from fulgurite.language.message import UserMessage

METADATA = "fulgurite.knob"
LARGEST = 2**63 - 1
"""The largest whole number of a parameter: what a tensor's sizes and steps are counted in."""
T = TypeVar("T")
LINK = re.compile(r"https://[^\s,;:)，。；：、）」》]+(?::[^\s,;:)，。；：、）」》]+)*")
"""A web address inside a source's words."""


@dataclass(frozen=True, slots=True)
class Range:
    """An interval of numbers; an end that is None is open to infinity, an `open_*` end is not part of it."""

    low: float | None = None
    high: float | None = None
    open_low: bool = False
    open_high: bool = False

    def has(self, x: float) -> bool:
        """Whether `x` lies inside; NaN never does."""
        if math.isnan(x):
            return False
        if self.low is not None and (x < self.low or (self.open_low and x == self.low)):
            return False
        return not (self.high is not None and (x > self.high or (self.open_high and x == self.high)))

    def __str__(self) -> str:
        low, high = (None if v is None else _format_end(v) for v in (self.low, self.high))
        if low is not None and high is not None:
            words = f"{low} to {high}"
            if self.open_low and self.open_high:
                return f"between {low} and {high}, both excluded"
            return (
                words
                + (f", {low} excluded" if self.open_low else "")
                + (f", {high} excluded" if self.open_high else "")
            )
        if low is not None:
            return f"above {low}" if self.open_low else f"at least {low}"
        if high is not None:
            return f"below {high}" if self.open_high else f"at most {high}"
        return "any number"


def _format_end(x: float) -> str:
    """Whole numbers with all their digits, up to a billion billions; others short."""
    return str(int(x)) if float(x).is_integer() and 1e6 <= abs(x) < 1e18 else f"{x:g}"


def at_least(low: float) -> Range:
    """`low` and more."""
    return Range(low=low)


def above(low: float, high: float | None = None) -> Range:
    """More than `low`, at most `high`."""
    return Range(low=low, high=high, open_low=True)


def between(low: float, high: float) -> Range:
    """`low` to `high`, both included."""
    return Range(low=low, high=high)


def below(low: float, high: float) -> Range:
    """`low` to `high`, `high` excluded."""
    return Range(low=low, high=high, open_high=True)


Usual = Range | tuple[Any, ...]
"""What works in practice: an interval, or the values a sweep should try."""


@dataclass(frozen=True, slots=True)
class Derived:
    """A value together with the reason it was chosen."""

    value: Any
    reason: str | UserMessage
    sure: Sure | None = None
    """How sure this value is, if the declaration's own source is about others too."""


@dataclass(frozen=True, slots=True)
class Empty:
    """What None stands for: in words, and as a rule `(run, facts) -> Derived`.

    `needs` says when the rule can answer: from the "config" alone, from the tokenised "data",
    or once the "steps" are known. Without a rule None keeps a meaning of its own, which the words tell.
    The run is a RunConfig, which is made of these declarations, so that its type is not named here.
    """

    words: str
    rule: Callable[[Any, Facts], Derived] | None = None
    needs: str = "config"


@dataclass(frozen=True, slots=True)
class Knob:
    """One declared parameter, as read back from its field."""

    name: str
    type: Any
    default: Any
    meaning: str
    source: str
    bounds: Range | None
    usual: Usual | Callable[[Any], Usual | None] | None
    advice: str
    empty: Empty | None
    group: str = ""
    option: str = ""
    sure: Sure | None = None
    raise_when: str = ""
    lower_when: str = ""
    leave: str = ""
    interacts: types.MappingProxyType[str, str] = field(default_factory=lambda: types.MappingProxyType({}))
    memory: str = ""
    time: str = ""
    misread: str = ""
    resolve: Callable[[str], str] | None = None
    values: Callable[[], Iterable[str]] | None = None

    @property
    def path(self) -> str:
        """The name on the command line: `optim.lr`, or `seed` at the root."""
        return f"{self.group}.{self.name}" if self.group else self.name

    @property
    def choices(self) -> tuple[str, ...]:
        """The values that a text or an enum may have, in order; empty for other types."""
        if self.values is not None:
            return tuple(self.values())
        kind = strip_none(self.type)
        return tuple(m.value for m in kind) if isinstance(kind, type) and issubclass(kind, StrEnum) else ()

    def make_paths_absolute(self, value: Any) -> Any:
        """The value, with its relative paths made absolute if the parameter holds paths."""
        if self.resolve is None or not value:
            return value
        return [self.resolve(word) for word in value] if isinstance(value, list) else self.resolve(value)

    def find_usual(self, run: Any) -> Usual | None:
        """The usual values under this run's other choices."""
        return self.usual(run) if callable(self.usual) else self.usual


def knob(
    default: Any,
    meaning: str,
    *,
    source: str,
    bounds: Range | None = None,
    usual: Usual | Callable[[Any], Usual | None] | None = None,
    advice: str = "",
    empty: Empty | None = None,
    sure: Sure | None = None,
    raise_when: str = "",
    lower_when: str = "",
    leave: str = "",
    interacts: dict[str, str] | None = None,
    memory: str = "",
    time: str = "",
    misread: str = "",
    resolve: Callable[[str], str] | None = None,
    values: Callable[[], Iterable[str]] | None = None,
) -> Any:
    """Declare a dataclass field as a knob.

    `raise_when` and `lower_when` say at what sight to move it, or `leave` why nobody should;
    `interacts` names other knobs and how they meet it; `memory` and `time` what a larger value costs;
    `misread` what is often taken wrongly. `sure` is needed only where the source's own words do not say how sure it is
    (`grade_source`). `resolve` is given for text that may name a file or a folder (such as places.resolve_path):
    it makes a relative path absolute when the run is made, so that the run works from any folder.
    `values` is given for a text that is one of a list to which packages may add.
    Raises TypeError where `None` is the default and `empty` does not say what it stands for.
    """
    if default is None and empty is None:
        raise TypeError(f"a knob that may be empty must say what None stands for: {meaning!r}")
    spec = {
        "meaning": meaning, "source": source, "bounds": bounds, "usual": usual, "advice": advice, "empty": empty,
        "sure": sure or grade_source(source), "raise_when": raise_when, "lower_when": lower_when, "leave": leave,
        "interacts": types.MappingProxyType(dict(interacts or {})), "memory": memory, "time": time, "misread": misread,
        "resolve": resolve, "values": values,
    }
    metadata = {METADATA: types.MappingProxyType(spec)}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(slots=True)
class Option(Freezable):
    """Base of all options. A subclass's docstring is its page in `explain`: what it is, then when to take it.

    `builds` names the function that makes the thing, as "module:function"; it is imported only when it is built.
    """

    builds: typing.ClassVar[str] = ""
    room: typing.ClassVar[str] = ""
    """The group that the option is of."""
    name: typing.ClassVar[str] = ""
    costs: typing.ClassVar[str] = ""
    """What taking it costs in memory, time or quality, beside the group's other options; a word or a sentence."""
    misread: typing.ClassVar[str] = ""
    """What is often taken wrongly, and how it is."""
    plots: typing.ClassVar[bool] = False
    """Whether `fulgurite explain group=name --plot` draws it."""
    several: typing.ClassVar[bool] = False
    """Whether a run may choose several options of this group at a time; their knobs then carry the option's name."""

    def find_refusal(self, run: Any) -> str | UserMessage | None:
        """Returns why this option cannot be part of `run`, in one sentence with the remedy; None if it can.
        Called before torch is loaded."""
        return None


OptionT = TypeVar("OptionT", bound=type[Option])

_options: dict[str, dict[str, type[Option]]] = {}


def option(group: str, name: str) -> Callable[[OptionT], OptionT]:
    """Register a dataclass as the option `name` of `group`. Raises ValueError where the name
    is taken by another class."""

    def register(cls: OptionT) -> OptionT:
        taken = _options.setdefault(group, {}).get(name)
        if taken is not None and (taken.__module__, taken.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"{group}={name} is {taken.__module__}.{taken.__qualname__} already")
        cls.room, cls.name = group, name
        _options[group][name] = cls
        return cls

    return register


def list_groups() -> dict[str, dict[str, type[Option]]]:
    """All registered options, by group and name."""
    return _options


def list_options(group: str) -> dict[str, type[Option]]:
    """The registered options of one group, by name."""
    return _options.get(group, {})


def find_option(group: str, name: object) -> type[Option] | None:
    """The option of this name, or None if there is none."""
    return list_options(group).get(str(name))


def has_declared(option: Option | type[Option], what: str) -> bool:
    """Whether the option itself declares `what`, a true ClassVar that its subclasses do not inherit."""
    return bool(vars(option if isinstance(option, type) else type(option)).get(what))


def build(config: Option, *args: Any, **kwargs: Any) -> Any:
    """Call what `config.builds` names with the config first. Raises ConfigError where that, or a library
    it needs, cannot be found."""
    module, _, function = type(config).builds.partition(":")
    what = f"{config.room}={config.name}"
    try:
        try:
            target = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError, ValueError) as error:
            _refuse_without(what, module, error)
            raise ConfigError(f"{what} cannot be built: {type(config).builds!r} is not there ({error}).") from error
        return target(config, *args, **kwargs)
    except ModuleNotFoundError as error:
        _refuse_without(what, module, error)
        raise


def _refuse_without(what: str, module: str, error: Exception) -> None:
    """Raise ConfigError with pip's command where the error is that another library than the
    option's own is not installed."""
    missing = ((isinstance(error, ModuleNotFoundError) and error.name) or "").partition(".")[0]
    if missing and missing != module.partition(".")[0]:
        raise ConfigError(
            f"{what} needs the library {missing}, which is not installed: pip install {missing.replace('_', '-')}."
        ) from error


def strip_none(kind: Any) -> Any:
    """`X` for `X | None`, else the type itself."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        inner = [a for a in typing.get_args(kind) if a is not type(None)]
        return inner[0] if len(inner) == 1 else kind
    return kind


def describe_type(kind: Any) -> str:
    """A type as a person reads it: `number`, `whole number`, `yes or no`, `list of text`, `one of a, b`."""
    kind = strip_none(kind)
    simple = {int: "whole number", float: "number", bool: "true or false", str: "text"}
    if kind in simple:
        return simple[kind]
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return "one of " + ", ".join(m.value for m in kind)
    if typing.get_origin(kind) is list:
        return "list of " + describe_type(typing.get_args(kind)[0])
    if typing.get_origin(kind) is dict:
        return "mapping"
    return getattr(kind, "__name__", str(kind))


def describe_kind(knob: Knob) -> str:
    """A knob's type as a person reads it: `describe_type`, with the values that packages may add to."""
    return "one of " + ", ".join(knob.choices) if knob.values is not None else describe_type(knob.type)


def list_knobs(cls: type) -> tuple[Knob, ...]:
    """The knobs of a dataclass, in the order of their declaration."""
    return _list_knobs(cls)


@functools.cache
def _list_knobs(cls: type) -> tuple[Knob, ...]:
    hints = typing.get_type_hints(cls)
    # the root may have a knob called `name`: only an option keeps its own name there
    group, name = getattr(cls, "room", ""), cls.name if issubclass(cls, Option) else ""
    place = f"{group}.{name}" if getattr(cls, "several", False) else group
    return tuple(
        Knob(
            name=f.name, type=hints[f.name],
            default=f.default_factory() if f.default_factory is not MISSING else f.default,
            group=place, option=name, **f.metadata[METADATA],
        )
        for f in fields(cls) if METADATA in f.metadata
    )


def walk_settings(config: Any, prefix: str = "") -> Iterator[tuple[Knob, Any]]:
    """Each knob of a config tree with its value; a nested dataclass or mapping of them adds its field's name."""
    known = {k.name: k for k in list_knobs(type(config))}
    for f in fields(config):
        value = getattr(config, f.name)
        place = f"{prefix}.{f.name}" if prefix else f.name
        if f.name in known:
            yield dataclasses.replace(known[f.name], group=prefix), value
        elif is_dataclass(value):
            yield from walk_settings(value, place)
        elif isinstance(value, dict):
            for key, item in value.items():
                if is_dataclass(item):
                    yield from walk_settings(item, f"{place}.{key}")


def check(knob: Knob, value: Any) -> None:
    """Raise ConfigError, in one sentence with the remedy, where `value` is not legal for `knob`."""
    if value is None:
        if knob.empty is None:
            raise ConfigError(f"{knob.path} may not be empty; its default is {knob.default}.")
        return
    if knob.values is not None and value not in knob.choices:
        raise ConfigError(f"{knob.path}={value} is not allowed: it must be {describe_kind(knob)}.")
    numbers = (
        knob.default if isinstance(knob.default, list) and all(isinstance(n, int | float) for n in knob.default) else []
    )
    if numbers and isinstance(value, list) and len(value) != len(numbers):
        raise ConfigError(f"{knob.path}={value} is not allowed: it has {len(numbers)} numbers, as in {numbers}.")
    fallback = "leave it empty" if knob.default is None else f"its default is {knob.default}"
    for item in value if isinstance(value, list) else value.values() if isinstance(value, dict) else [value]:
        if not isinstance(item, int | float) or isinstance(item, bool):
            continue
        if isinstance(item, int) and abs(item) > LARGEST:
            raise ConfigError(
                f"{knob.path} is not allowed: it has more than {len(str(LARGEST)) - 1} digits; {fallback}."
            )
        if not math.isfinite(item):
            raise ConfigError(f"{knob.path}={item} is not allowed: it must be a finite number; {fallback}.")
        if knob.bounds is not None and not knob.bounds.has(item):
            raise ConfigError(f"{knob.path}={item} is not allowed: it must be {knob.bounds}; {fallback}.")
