"""Lines and words of a conversion."""

from __future__ import annotations

import pytest

from fulgurite.convert.conversion import Conversion, Line, Settings, Verdict, is_true, show_value, write_word
from fulgurite.language.message import message


def test_options_come_first_and_the_last_value_of_a_parameter_counts() -> None:
    lines = (
        Line("a", "1", Verdict.taken, ("optim.lr=1", "optim=lion")), Line("b", "2", Verdict.taken, ("optim.lr=2",)),
    )
    assert Conversion("x", lines).words == ["optim=lion", "optim.lr=2"]


def test_lines_are_selected_by_their_verdict() -> None:
    lines = (Line("a", "1", Verdict.taken), Line("b", "2", Verdict.refused),
             Line("c", "3", Verdict.taken, is_default=True))
    found = Conversion("x", lines)
    assert [line.key for line in found.select(Verdict.taken)] == ["a"]
    assert [line.key for line in found.select(Verdict.taken, defaults=True)] == ["c"]
    assert found.lines[1].to_json()["verdict"] == "refused"


def test_a_null_of_the_file_leaves_the_default() -> None:
    settings = Settings({"a": None, "b": "true"}, {"a": 8})
    assert settings.get("a") == 8
    assert settings.is_on("b")
    assert not settings.is_on("c")


@pytest.mark.parametrize(("value", "word"), [
    (3.0, "x=3"), (1e-5, "x=1e-05"), (True, "x=true"), ("a b", "x='a b'"), (["a", "b c"], "x=[a,'b c']"),
    (None, "x=null"), (2.5, "x=2.5"),
])
def test_values_are_written_as_on_a_command_line(value: object, word: str) -> None:
    assert write_word("x", value) == word


def test_truth_and_values_are_read_as_yaml_has_them() -> None:
    assert [is_true(value) for value in (True, "True", "on", 1, False, "no", None)] == [True] * 4 + [False] * 3
    assert show_value([1, True, None]) == "1,true,null"


def test_json_is_english_in_every_language() -> None:
    line = Line("a", "1", Verdict.unneeded, reason=message("It is so here too."))
    assert line.to_json()["reason"] == "It is so here too."
