"""Declarations of parameters and options: type, default, limits, meaning, advice and source of each parameter.

A parameter (knob) is a dataclass field made by `knob`; an option is a slotted dataclass registered with
`@option(group, name)`. The command line, explain, plan, the sweeps and the comments in conf/ are derived from these
declarations. Standard library only.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from enum import StrEnum
from typing import Any, TypeVar

from fulgurite.config.confidence import Sure, grade_source
from fulgurite.config.described import list_meanings
from fulgurite.config.facts import Facts
from fulgurite.config.frozen import Freezable
from fulgurite.errors import ConfigError
from fulgurite.language.library_errors import translate_error
from fulgurite.language.message import UserMessage, message

METADATA = "fulgurite.knob"
LARGEST = 2**63 - 1
"""The largest whole number of a parameter, as of the sizes of tensors."""
T = TypeVar("T")
LINK = re.compile(r"https://[^\s,;:)，。；：、）」》]+(?::[^\s,;:)，。；：、）」》]+)*")
"""A web address in the text of a source."""


@dataclass(frozen=True, slots=True)
class Range:
    """An interval of numbers; without an end it is unbounded, and an `open_*` end is not part of it."""

    low: float | None = None
    high: float | None = None
    open_low: bool = False
    open_high: bool = False

    def has(self, x: float) -> bool:
        """Returns whether `x` is in the interval; NaN never is."""
        if math.isnan(x):
            return False
        if self.low is not None and (x < self.low or (self.open_low and x == self.low)):
            return False
        return not (self.high is not None and (x > self.high or (self.open_high and x == self.high)))

    def describe(self) -> UserMessage:
        """Returns the interval in words, such as `at least 1`."""
        low, high = (None if end is None else format_number(end) for end in (self.low, self.high))
        if low is None and high is None:
            return message("any number")
        if high is None:
            return message("above {low}", low=low) if self.open_low else message("at least {low}", low=low)
        if low is None:
            return message("below {high}", high=high) if self.open_high else message("at most {high}", high=high)
        if self.open_low and self.open_high:
            return message("between {low} and {high}, both excluded", low=low, high=high)
        if self.open_low or self.open_high:
            end = low if self.open_low else high
            return message("{low} to {high}, {end} excluded", low=low, high=high, end=end)
        return message("{low} to {high}", low=low, high=high)

    def __str__(self) -> str:
        return self.describe().english


def format_number(x: float) -> str:
    """Formats a whole number with all its digits, up to a billion billions; others with six significant digits."""
    return str(int(x)) if float(x).is_integer() and 1e6 <= abs(x) < 1e18 else f"{x:g}"


def at_least(low: float) -> Range:
    """Returns the range of `low` and more."""
    return Range(low=low)


def above(low: float, high: float | None = None) -> Range:
    """Returns the range above `low`, up to `high`."""
    return Range(low=low, high=high, open_low=True)


def between(low: float, high: float) -> Range:
    """Returns the range from `low` to `high`, both included."""
    return Range(low=low, high=high)


def below(low: float, high: float) -> Range:
    """Returns the range from `low` to `high`, `high` excluded."""
    return Range(low=low, high=high, open_high=True)


Usual = Range | tuple[Any, ...]
"""Values that work in practice: an interval, or the values that a sweep should try."""


@dataclass(frozen=True, slots=True)
class Derived:
    """A value together with the reason it was chosen."""

    value: Any
    reason: str | UserMessage
    sure: Sure | None = None
    """How sure this value is, if the declaration's own source is about others too."""


@dataclass(frozen=True, slots=True)
class Empty:
    """The meaning of None: in words, and as a rule `(run, facts) -> Derived`.

    `needs` is the input of the rule: the "config" alone, the tokenised "data", or the number of "steps". Without a rule
    None stays, and has the meaning that the words give. The run is a RunConfig, whose type is not named here because it
    is made of these declarations.
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
        """The name on the command line: `optim.lr`, or `seed` for a parameter of the run itself."""
        return f"{self.group}.{self.name}" if self.group else self.name

    @property
    def choices(self) -> tuple[str, ...]:
        """The legal values of a text or an enum, in order; empty for other types."""
        if self.values is not None:
            return tuple(self.values())
        kind = strip_none(self.type)
        return tuple(m.value for m in kind) if isinstance(kind, type) and issubclass(kind, StrEnum) else ()

    @property
    def choice_meanings(self) -> dict[str, str]:
        """What each legal value does, of those whose declaration explains it."""
        found = self.values() if self.values is not None else list_meanings(strip_none(self.type))
        return {name: text for name, text in found.items() if text} if isinstance(found, Mapping) else {}

    def make_paths_absolute(self, value: Any) -> Any:
        """Returns the value with its relative paths made absolute, if the parameter is one of paths."""
        if self.resolve is None or not value:
            return value
        return [self.resolve(word) for word in value] if isinstance(value, list) else self.resolve(value)

    def find_usual(self, run: Any) -> Usual | None:
        """Returns the usual values for this run's other choices."""
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
    """Declares a dataclass field as a parameter.

    `raise_when` and `lower_when` are the situations in which to change it, or `leave` the reason to keep it.
    `interacts` names other parameters and their effect on it; `memory` and `time` are the cost of a larger value;
    `misread` is a common mistake. `sure` is needed only if the text of the source does not give its confidence
    (`grade_source`). `resolve` is for text that may name a file or a folder (such as paths.resolve_path): it makes a
    relative path absolute when the run is made, so that the run works from any folder. `values` is for a text that is
    one of a list to which packages may add; as a mapping it explains each.
    Raises TypeError if the default is None and `empty` is missing.
    """
    if default is None and empty is None:
        raise TypeError(f"a parameter with the default None needs `empty`, the meaning of None: {meaning!r}")
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
    """Base of all options. The docstring of a subclass is its page in `explain`: what it is, then when to use it.

    `builds` names the function that builds it, as "module:function"; the module is imported only then.
    """

    builds: typing.ClassVar[str] = ""
    room: typing.ClassVar[str] = ""
    """The group of the option."""
    name: typing.ClassVar[str] = ""
    costs: typing.ClassVar[str] = ""
    """Its cost in memory, time or quality, compared with the other options of the group; a word or a sentence."""
    misread: typing.ClassVar[str] = ""
    """A common mistake about it, corrected."""
    plots: typing.ClassVar[bool] = False
    """Whether `fulgurite explain group=name --plot` draws it."""
    several: typing.ClassVar[bool] = False
    """Whether a run may choose several options of this group; their parameters then include the option's name."""

    def find_refusal(self, run: Any) -> str | UserMessage | None:
        """Returns why this option cannot be part of `run`, in one sentence with the remedy; None if it can.

        Called before torch is loaded.
        """
        return None


OptionT = TypeVar("OptionT", bound=type[Option])

_options: dict[str, dict[str, type[Option]]] = {}


def option(group: str, name: str) -> Callable[[OptionT], OptionT]:
    """Registers a dataclass as the option `name` of `group`. Raises ValueError if another class has that name."""

    def register(cls: OptionT) -> OptionT:
        taken = _options.setdefault(group, {}).get(name)
        if taken is not None and (taken.__module__, taken.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"{group}={name} is {taken.__module__}.{taken.__qualname__} already")
        cls.room, cls.name = group, name
        _options[group][name] = cls
        return cls

    return register


def list_groups() -> dict[str, dict[str, type[Option]]]:
    """Returns all registered options, by group and name."""
    return _options


def list_options(group: str) -> dict[str, type[Option]]:
    """Returns the registered options of one group, by name."""
    return _options.get(group, {})


def find_option(group: str, name: object) -> type[Option] | None:
    """Returns the option of this name, or None if there is none."""
    return list_options(group).get(str(name))


def has_declared(option: Option | type[Option], what: str) -> bool:
    """Returns whether the option itself declares `what`, a true ClassVar that its subclasses do not inherit."""
    return bool(vars(option if isinstance(option, type) else type(option)).get(what))


def build(config: Option, *args: Any, **kwargs: Any) -> Any:
    """Calls the function that `config.builds` names, with the config as its first argument.

    Raises ConfigError if the function, or a library that it needs, cannot be found.
    """
    module, _, function = type(config).builds.partition(":")
    what = f"{config.room}={config.name}"
    try:
        try:
            target = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError, ValueError) as error:
            _refuse_without(what, module, error)
            raise ConfigError(
                "{option} cannot be built: {function!r} cannot be imported ({error}).",
                option=what, function=type(config).builds, error=translate_error(error),
            ) from error
        return target(config, *args, **kwargs)
    except ModuleNotFoundError as error:
        _refuse_without(what, module, error)
        raise


def _refuse_without(what: str, module: str, error: Exception) -> None:
    """Raises ConfigError with pip's command if the error is that a library, not the option's own module, is missing."""
    missing = ((isinstance(error, ModuleNotFoundError) and error.name) or "").partition(".")[0]
    if missing and missing != module.partition(".")[0]:
        raise ConfigError(
            "{option} needs the package {package}, which is not installed; install it: pip install {package}",
            option=what, package=missing.replace("_", "-"),
        ) from error


def strip_none(kind: Any) -> Any:
    """Returns `X` for `X | None`, else the type itself."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        inner = [a for a in typing.get_args(kind) if a is not type(None)]
        return inner[0] if len(inner) == 1 else kind
    return kind


def describe_type(kind: Any) -> str:
    """Returns a type in English words: `number`, `whole number`, `true or false`, `list of text`, `one of a, b`."""
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
    """Returns the type of a parameter in English words, with the values of packages."""
    return "one of " + ", ".join(knob.choices) if knob.values is not None else describe_type(knob.type)


def list_knobs(cls: type) -> tuple[Knob, ...]:
    """Returns the parameters of a dataclass, in the order of their declaration."""
    return _list_knobs(cls)


@functools.cache
def _list_knobs(cls: type) -> tuple[Knob, ...]:
    hints = typing.get_type_hints(cls)
    # the run itself has a parameter called `name`: only in an option is it the name of the class
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
    """Yields each parameter of a config tree with its value; a nested dataclass or mapping adds the name of its field.
    """
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
