"""Enums whose members explain themselves."""

from __future__ import annotations

import copy
import json
import pickle
from enum import StrEnum

import pytest

from fulgurite.config.described import DescribedEnum, list_meanings
from fulgurite.config.run import list_all_knobs
from fulgurite.config.schema import strip_none
from fulgurite.data.config import Mask


def test_member_is_its_value_and_has_a_meaning() -> None:
    assert Mask("last") is Mask.last
    assert Mask.last == "last"
    assert (str(Mask.last), Mask.last.value, json.dumps(Mask.last)) == ("last", "last", '"last"')
    assert Mask.last.meaning.startswith("Only the last answer")
    for same in (pickle.loads(pickle.dumps(Mask.last)), copy.deepcopy(Mask.last)):
        assert same is Mask.last
    with pytest.raises(ValueError, match="first"):
        Mask("first")


def test_meanings_are_listed_by_value() -> None:
    class Some(DescribedEnum):
        """An example."""

        one = "one", "The first."
        two = "two"

    class Plain(StrEnum):
        """Another."""

        one = "one"

    assert list_meanings(Some) == {"one": "The first.", "two": ""}
    assert list_meanings(Plain) == list_meanings(int) == list_meanings(None) == {}


def test_every_enum_of_a_parameter_explains_each_value() -> None:
    silent = {
        knob.path: missing for knob in list_all_knobs()
        if isinstance(strip_none(knob.type), type) and issubclass(strip_none(knob.type), StrEnum)
        and (missing := [name for name in knob.choices if not knob.choice_meanings.get(name)])
    }
    assert silent == {}


def test_every_loss_of_ours_is_explained() -> None:
    losses = [knob for knob in list_all_knobs() if knob.path == "stage.loss"]
    assert len(losses) == 3
    for knob in losses:
        assert list(knob.choice_meanings) == list(knob.choices)
