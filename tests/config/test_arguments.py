"""Words of the commands that Hydra does not compose: typed values, or one sentence with the remedy."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from fulgurite.config.arguments import format_usage, parse
from fulgurite.config.schema import Empty, at_least, knob
from fulgurite.errors import ConfigError


@dataclass(slots=True)
class Print:
    """How to print."""

    title: str | None = knob(None, "The first line.", source="ours", empty=Empty("none"))
    copies: int = knob(1, "How many copies.", source="ours", bounds=at_least(1))
    scale: float = knob(1.0, "The size.", source="ours")
    colour: bool = knob(True, "Whether in colour.", source="ours")


def test_words_become_values_of_the_declared_types() -> None:
    assert parse(Print, [], "print") == Print()
    found = parse(Print, ["title=a=b", "copies=3", "scale=1e-1", "colour=False"], "print")
    assert found == Print(title="a=b", copies=3, scale=0.1, colour=False)
    assert parse(Print, ["title=x", "title=null"], "print").title is None  # the last word counts


@pytest.mark.parametrize(("word", "sentence"), [
    ("copies", "copies is not of the form parameter=value; write for example title=..."),
    ("=3", "=3 has no parameter before the =; write parameter=value."),
    ("copes=3", "fulgurite print has no parameter copes. Did you mean copies? It has title, copies, scale, colour."),
    ("copies=1.5", "copies=1.5 is not allowed: copies must be a whole number."),
    ("colour=yes", "colour=yes is not allowed: colour must be true or false."),
    ("copies=0", "copies=0 is not allowed: it must be at least 1; its default is 1."),
    ("copies=null", "copies must have a value"),
])
def test_a_wrong_word_is_refused_with_the_remedy(word: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(Print, [word], "print")
    assert sentence in str(caught.value)


def test_help_prints_each_parameter_and_leaves_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        parse(Print, ["copies=wrong", "--help"], "print")
    assert not left.value.code
    assert capsys.readouterr().out == format_usage(Print, "print") + "\n"
    assert format_usage(Print, "print").splitlines() == [
        "fulgurite print PARAMETER=VALUE ...", "", "  title        The first line.", "  copies       How many copies.",
        "  scale        The size.", "  colour       Whether in colour.",
    ]
