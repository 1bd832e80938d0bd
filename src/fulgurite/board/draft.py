"""What a person chose on the page so far, and the words of the command line that it means.

A draft comes from a browser, so nothing in it is trusted: names must be declared, values fit their parameter, text is
quoted, paths are under the board's folders, and nothing in it lets code run.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from fulgurite.board.draft_guard import Guard, IsAllowed
from fulgurite.board.typed_values import DraftError, check_text, format_typed, write_typed
from fulgurite.config.choices import check_choice
from fulgurite.config.guard import refuse_secret
from fulgurite.config.run import GROUPS, PRESETS, SEVERAL, list_all_knobs
from fulgurite.config.schema import Knob
from fulgurite.errors import ConfigError
from fulgurite.explain.choices import list_presets, read_default_options
from fulgurite.language.message import message

NAME = re.compile(r"[A-Za-z0-9_.]{1,64}")
"""A parameter's name or a group's."""
OPTION = re.compile(r"[A-Za-z0-9_.-]{1,64}")
MOST_CHOICES, MOST_VALUES = 40, 400
Choice = str | list[str]


@dataclass(frozen=True, slots=True)
class Draft:
    """The options that were chosen by group, the values as they were typed by parameter, and presets by group."""

    choices: Mapping[str, Choice] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)
    adds: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Returns the draft as the page holds it."""
        return {"choices": dict(self.choices), "values": dict(self.values), "adds": dict(self.adds)}

    @property
    def is_search(self) -> bool:
        """Whether `fulgurite train` makes several runs of it, and needs `-m`."""
        return "sweep" in self.adds


def read_draft(body: Any) -> Draft:
    """Returns the draft in a JSON body. Raises ConfigError for anything else."""
    if not isinstance(body, Mapping):
        raise ConfigError("A draft is an object with choices, values and adds.")
    choices, values, adds = (_read_part(body, name) for name in ("choices", "values", "adds"))
    if len(choices) + len(adds) > MOST_CHOICES or len(values) > MOST_VALUES:
        raise ConfigError("A draft has at most {choices} choices and {values} values.", choices=MOST_CHOICES,
                          values=MOST_VALUES)
    return Draft(
        {name: [str(item) for item in value] if isinstance(value, list) else _read_text(name, value)
         for name, value in choices.items()},
        {name: _read_text(name, value) for name, value in values.items()},
        {name: _read_text(name, value) for name, value in adds.items()},
    )


def _read_part(body: Mapping[str, Any], part: str) -> dict[str, Any]:
    found = body.get(part)
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise ConfigError("A draft is an object with choices, values and adds.")
    # null is a field that was emptied again
    return {str(name): value for name, value in found.items() if value is not None}


def _read_text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return format_typed(value)
    raise ConfigError("{name} must be text, as it was typed.", name=name[:64])


def build_words(draft: Draft, allow_code: bool = False, is_allowed: IsAllowed | None = None) -> list[str]:
    """Returns the words of `fulgurite train` and `fulgurite plan` for a draft, each one argument, without `-m`.

    Raises DraftError, with the parameter or group that it is about. Without `is_allowed`, which decides about paths,
    no path is allowed.
    """
    guard = Guard(allow_code, is_allowed)
    words = [_write_add(group, str(name), guard) for group, name in draft.adds.items()]
    words += [_write_choice(group, name, guard) for group, name in draft.choices.items()]
    options = {**read_default_options(), **{g: c for g, c in draft.choices.items() if isinstance(c, str)}}
    for name, text in draft.values.items():
        knob = find_knob(name, options)
        guard.check_value(knob, text)
        _refuse_secret(name, text)
        value = write_typed(knob, text)
        words += [f"{name}={value}"] if value is not None else []
    return words


def build_command(draft: Draft, words: Sequence[str]) -> str:
    """Returns the command line to copy, quoted for a shell."""
    return shlex.join(["fulgurite", "train", *(["-m"] if draft.is_search else []), *words])


def find_knob(name: str, options: Mapping[str, Choice]) -> Knob:
    """Returns the declaration of a parameter, that of the chosen option if several declare it. Raises DraftError."""
    if not NAME.fullmatch(name):
        raise DraftError(message("A parameter has another kind of name: letters, digits, dots and underscores."), "")
    found = _index_knobs().get(name)
    if not found:
        # the same sentence as for a word of the command line, which has the nearest name
        from fulgurite.config.override_checks import prepare

        try:
            prepare([f"{name}=x"])
        except ConfigError as error:
            raise DraftError(error.message, name) from error
        raise DraftError(message("{name} is no parameter with a value.", name=name), name)
    option = find_base(name.partition(".")[0], options.get(name.partition(".")[0], ""))
    return next((knob for knob in found if knob.option == option), found[0])


@cache
def _index_knobs() -> dict[str, tuple[Knob, ...]]:
    found: dict[str, list[Knob]] = {}
    for knob in list_all_knobs():
        found.setdefault(knob.path, []).append(knob)
    return {path: tuple(knobs) for path, knobs in found.items()}


def find_base(group: str, name: Choice) -> str:
    """Returns the option that a name chooses: that of a preset is the one that it starts from."""
    preset = next((p for p in list_presets(group) if p.name == name), None)
    return preset.base if preset is not None and preset.base else str(name)


def _write_choice(group: str, chosen: Choice, guard: Guard) -> str:
    if group not in GROUPS:
        raise DraftError(
            message("There is no group {name}. The groups are {groups}.", name=group[:64], groups=", ".join(GROUPS)),
            group,
        )
    several = isinstance(chosen, list) or (group in SEVERAL and chosen.strip()[:1] == "[") or "," in chosen
    names = chosen if isinstance(chosen, list) else chosen.strip().strip("[]").split(",")
    names = [name.strip() for name in names if name.strip()] if several else [str(chosen).strip()]
    for name in names:
        _check_option(group, name, guard)
    if several and group not in SEVERAL:
        raise DraftError(message("A run has only one {group}.", group=group), group)
    return f"{group}=[{','.join(names)}]" if several else f"{group}={names[0]}"


def _write_add(group: str, name: str, guard: Guard) -> str:
    if group not in PRESETS:
        raise DraftError(
            message("There is no group {name}. The groups are {groups}.", name=group[:64], groups=", ".join(PRESETS)),
            group,
        )
    _check_option(group, name.strip(), guard)
    return f"+{group}={name.strip()}"


def _check_option(group: str, name: str, guard: Guard) -> None:
    """Raises DraftError if a group has no such option, or if it is a preset that lets code run."""
    check_text(group, name)
    if not OPTION.fullmatch(name) or set(name) == {"."}:
        raise DraftError(message("{group} has no option of this name.", group=group), group)
    try:
        check_choice(group, name, f"{group}={name}", None)
    except ConfigError as error:
        raise DraftError(error.message, group) from error
    preset = next((p for p in list_presets(group) if p.name == name), None)
    if preset is not None:
        prefix = "" if group in PRESETS else f"{group}."
        for key, value in preset.changes.items():
            guard.check_code(f"{prefix}{key}", format_typed(value))


def _refuse_secret(name: str, text: str) -> None:
    try:
        refuse_secret(name, text)
    except ConfigError as error:
        raise DraftError(error.message, name) from error
