"""Knobs: what a declaration must say, and what its limits refuse."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import pytest

from fulgurite.config import schema
from fulgurite.config.run import load_options
from fulgurite.config.schema import (
    Empty,
    Range,
    above,
    at_least,
    below,
    between,
    build,
    describe_type,
    knob,
    list_groups,
    list_knobs,
    strip_none,
    walk_settings,
)
from fulgurite.errors import ConfigError


class Way(StrEnum):
    left = "left"
    right = "right"


@dataclass(slots=True)
class Thing(schema.Option):
    """A thing."""

    size: int = knob(3, "How big.", source="ours", bounds=at_least(1), usual=between(1, 5))
    way: Way = knob(Way.left, "Where to.", source="ours")
    share: float | None = knob(None, "How much.", source="ours", bounds=below(0, 1), empty=Empty("all"))
    names: list[str] = knob([], "Who.", source="ours")


def test_a_parameter_needs_a_meaning_and_a_source() -> None:
    with pytest.raises(TypeError):
        knob(1, "A size.")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        knob(1, source="ours")  # type: ignore[call-arg]


def test_an_empty_default_needs_the_meaning_of_none() -> None:
    with pytest.raises(TypeError, match="the meaning of None"):
        knob(None, "A size.", source="ours")


@pytest.mark.parametrize(
    ("limits", "inside", "outside"),
    [
        (at_least(1), [1, 2, 1e9], [0, 0.99, -1]),
        (above(0, 1), [1e-9, 1], [0, 1.0001, -1]),
        (below(0, 1), [0, 0.999], [1, -0.1]),
        (between(0, 1), [0, 1], [-0.1, 1.1]),
        (Range(0, 1, open_low=True, open_high=True), [0.5], [0, 1]),
        (Range(), [-1e30, 1e30], [float("nan")]),
    ],
)
def test_ranges(limits: Range, inside: list[float], outside: list[float]) -> None:
    assert all(limits.has(x) for x in inside)
    assert not any(limits.has(x) for x in outside)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (at_least(1), "at least 1"), (above(0), "above 0"), (above(0, 1), "0 to 1, 0 excluded"),
        (between(0, 1), "0 to 1"),
        (Range(high=3), "at most 3"),
        (between(0, 4294967295), "0 to 4294967295"),
        (between(1e-7, 1e30), "1e-07 to 1e+30"),
    ],
)
def test_ranges_in_words(limits: Range, words: str) -> None:
    assert str(limits) == words


def test_types_in_words_and_choices() -> None:
    size, way, share, names = list_knobs(Thing)
    assert [describe_type(k.type) for k in (size, way, share, names)] == ["whole number", "one of left, right",
        "number",
        "list of text"]
    assert way.choices == ("left", "right")
    assert strip_none(share.type) is float


def test_settings_walk_the_tree_and_lists_are_not_shared() -> None:
    one, two = Thing(), Thing()
    one.names.append("x")
    assert two.names == []
    assert {k.path: v for k, v in walk_settings(one, "thing")}["thing.names"] == ["x"]


def test_an_option_name_is_taken_once() -> None:
    load_options()
    with pytest.raises(ValueError, match="already"):
        schema.option("stage", "sft")(Thing)


def test_a_slotted_config_refuses_unknown_fields() -> None:
    with pytest.raises(AttributeError):
        Thing().sizes = 3  # type: ignore[attr-defined]


def test_a_missing_builder_is_named() -> None:
    @dataclass(slots=True)
    class Ghost(schema.Option):
        builds = "fulgurite.nowhere:build"

    with pytest.raises(ConfigError, match=r"fulgurite\.nowhere:build"):
        schema.build(Ghost())


def test_every_option_names_a_builder_that_exists() -> None:
    import importlib

    for named_options in list_groups().values():
        for cls in named_options.values():
            module, _, function = cls.builds.partition(":")
            assert callable(getattr(importlib.import_module(module), function)), cls
    assert build
