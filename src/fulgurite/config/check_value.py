"""Checks values of parameters against their declarations, and describes what is legal in sentences."""

from __future__ import annotations

import math
import typing
from enum import StrEnum
from typing import Any

from fulgurite.config.schema import LARGEST, Knob, strip_none
from fulgurite.errors import ConfigError
from fulgurite.language.message import UserMessage, message


def check(knob: Knob, value: Any) -> None:
    """Raises ConfigError, in one sentence with the remedy, if `value` is not legal for `knob`."""
    if value is None:
        if knob.empty is None:
            raise ConfigError(
                "{path} must have a value; its default is {default}.", path=knob.path, default=knob.default
            )
        return
    if knob.values is not None and value not in knob.choices:
        raise _refuse(knob, value, message("it must be one of {names}", names=", ".join(knob.choices)))
    # a list of numbers by default, such as optim.betas, has a fixed length
    numbers = knob.default if isinstance(knob.default, list) else []
    is_fixed = bool(numbers) and all(isinstance(n, int | float) for n in numbers)
    if is_fixed and isinstance(value, list) and len(value) != len(numbers):
        raise _refuse(knob, value, message("it needs {count} numbers", count=len(numbers)))
    for item in value if isinstance(value, list) else value.values() if isinstance(value, dict) else [value]:
        if isinstance(item, int | float) and not isinstance(item, bool):
            _check_number(knob, item)


def _check_number(knob: Knob, item: int | float) -> None:
    if isinstance(item, int) and abs(item) > LARGEST:
        raise _refuse(knob, "...", message("it has more than {most} digits", most=len(str(LARGEST)) - 1))
    if not math.isfinite(item):
        raise _refuse(knob, item, message("it must be a finite number"))
    if knob.bounds is not None and not knob.bounds.has(item):
        raise _refuse(knob, item, message("it must be {range}", range=knob.bounds.describe()))


def _refuse(knob: Knob, value: object, expected: UserMessage) -> ConfigError:
    if knob.default is None:
        return ConfigError(
            "{path}={value} is not allowed: {expected}; or leave it out.",
            path=knob.path, value=value, expected=expected,
        )
    return ConfigError(
        "{path}={value} is not allowed: {expected}; its default is {default}.",
        path=knob.path, value=value, expected=expected, default=knob.default,
    )



def describe_expected(kind: Any) -> UserMessage:
    """Returns what a value of a type looks like, for a sentence such as `it must be a whole number`."""
    kind = strip_none(kind)
    simple = {
        int: message("a whole number"), float: message("a number"), bool: message("true or false"),
        str: message("text"),
    }
    if kind in simple:
        return simple[kind]
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return message("one of {names}", names=", ".join(member.value for member in kind))
    if typing.get_origin(kind) is list:
        return message("a list, each item {kind}", kind=describe_expected(typing.get_args(kind)[0]))
    return message("a mapping")
