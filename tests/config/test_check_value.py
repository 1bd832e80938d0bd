"""Values that a declaration refuses, and the sentences about them, in both languages."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pytest

from fulgurite.config import schema
from fulgurite.config.check_value import check, describe_expected
from fulgurite.config.schema import Empty, at_least, below, knob, list_knobs
from fulgurite.errors import ConfigError
from fulgurite.language import use_language


class Way(StrEnum):
    left = "left"
    right = "right"


@dataclass(slots=True)
class Thing(schema.Option):
    """A thing."""

    size: int = knob(3, "How big.", source="ours", bounds=at_least(1))
    share: float | None = knob(None, "How much.", source="ours", bounds=below(0, 1), empty=Empty("all"))
    betas: list[float] = knob([0.9, 0.99], "Two.", source="ours")
    kind: str = knob("a", "Which.", source="ours", values=lambda: ("a", "b"))


SIZE, SHARE, BETAS, KIND = list_knobs(Thing)


@pytest.mark.parametrize(("parameter", "value"), [(SIZE, 1), (SHARE, None), (BETAS, [0.1, 0.2]), (KIND, "b")])
def test_legal_values_pass(parameter: schema.Knob, value: Any) -> None:
    check(parameter, value)


@pytest.mark.parametrize(("parameter", "value", "sentence"), [
    (SIZE, 0, "size=0 is not allowed: it must be at least 1; its default is 3."),
    (SIZE, None, "size must have a value; its default is 3."),
    (SIZE, 10**30, "size=... is not allowed: it has more than 18 digits; its default is 3."),
    (SHARE, 1.0, "share=1.0 is not allowed: it must be 0 to 1, 1 excluded; or leave it out."),
    (SHARE, float("nan"), "share=nan is not allowed: it must be a finite number; or leave it out."),
    (BETAS, [0.9], "betas=[0.9] is not allowed: it needs 2 numbers; its default is [0.9, 0.99]."),
    (KIND, "c", "kind=c is not allowed: it must be one of a, b; its default is a."),
])
def test_a_refusal_names_parameter_value_and_remedy(parameter: schema.Knob, value: Any, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check(parameter, value)
    assert str(caught.value) == sentence


def test_a_refusal_is_in_the_language_in_use() -> None:
    with pytest.raises(ConfigError) as caught:
        check(SIZE, 0)
    with use_language("zh"):
        assert str(caught.value) == "不能使用 size=0：必须至少 1；默认值是 3。"


@pytest.mark.parametrize(("kind", "words"), [
    (int, "a whole number"), (float | None, "a number"), (bool, "true or false"), (str, "text"),
    (Way, "one of left, right"), (list[int], "a list, each item a whole number"), (dict[str, int], "a mapping"),
])
def test_expected_types_in_words(kind: Any, words: str) -> None:
    assert str(describe_expected(kind)) == words
