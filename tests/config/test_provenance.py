"""A composed run as plain values."""

from __future__ import annotations

from dataclasses import dataclass

from fulgurite.config.compose import compose
from fulgurite.config.facts import Facts
from fulgurite.config.provenance import Composed, Unusual, to_plain
from fulgurite.config.run import RunConfig
from fulgurite.config.schema import Option
from fulgurite.data.config import Mask


def test_plain_values_survive_json() -> None:
    import json

    composed = compose(["logger=csv"])
    again = json.loads(json.dumps(to_plain(composed.run)))
    assert again["method"]["option"] == "lora"
    assert again["data"]["too_long"] == "drop"
    assert again["logger"]["csv"] == {"option": "csv"}


@dataclass(slots=True)
class Part(Option):
    """A part."""

    name = "mine"
    size: int = 3
    kinds: tuple[Mask, ...] = (Mask.all,)


def test_dataclasses_enums_and_tuples_become_plain_values() -> None:
    found = to_plain({"part": Part(), "none": None, "deep": [Facts(rows=2)]})
    assert found["part"] == {"option": "mine", "size": 3, "kinds": ["all"]}
    assert type(found["part"]["kinds"][0]) is str
    assert found["deep"][0]["rows"] == 2
    assert found["none"] is None


def test_a_warning_is_the_sentence_about_an_unusual_value() -> None:
    unusual = [Unusual("optim.lr", "optim.lr=0.5 is outside what is usual."), Unusual("seed", "Another.")]
    composed = Composed(RunConfig(), {}, {}, [], unusual=unusual)
    assert composed.warnings == ["optim.lr=0.5 is outside what is usual.", "Another."]
