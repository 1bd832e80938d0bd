"""Cards of all parameters and options, in both languages."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys

import pytest

from fulgurite.board.cards import build_cards
from fulgurite.config.run import GROUPS, list_all_knobs
from fulgurite.language.current import use_language


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_parameter_and_option_has_a_card(language: str) -> None:
    with use_language(language):
        found = build_cards()
    assert set(found["cards"]) == {knob.path for knob in list_all_knobs()}
    groups = {group["name"]: group for group in found["groups"]}
    assert set(groups) >= {*GROUPS, "experiment", "sweep", "find"}
    assert {"lora", "full", "dora"} <= {option["name"] for option in groups["method"]["options"]}
    for cards in found["cards"].values():
        for card in cards:
            assert card["title"]
            assert card["meaning"]
            assert card["kind"] in {"number", "bool", "choice", "list", "map", "text"}
            assert all(label and text for label, text in card["rows"])


def test_search_finds_a_parameter_by_every_name_in_either_language() -> None:
    card = build_cards()["cards"]["optim.lr"][0]
    for word in ("learning_rate", "学习率", "optim.lr", "learning rate", "peak"):
        assert word in card["search"]
    assert ["LLaMA Board", "学习率"] in card["names"]
    dtypes = build_cards()["cards"]["method.rank"][0]
    assert "lora_rank" in dtypes["search"]


def test_each_value_of_a_choice_is_explained_in_either_language() -> None:
    english = build_cards()["cards"]["data.mask"][0]["choice_meanings"]
    assert list(english) == ["answers", "last", "all"]
    assert english["last"].startswith("Only the last answer")
    with use_language("zh"):
        card = build_cards()["cards"]["data.mask"][0]
    assert card["choice_meanings"]["all"] == "学习每个 token，包括提示。"
    assert ["取值", "\n".join(f"`{name}`: {text}" for name, text in card["choice_meanings"].items())] in card["rows"]


def test_cards_are_compact() -> None:
    text = json.dumps(build_cards(), ensure_ascii=False, separators=(",", ":")).encode()
    assert len(text) < 400_000
    assert len(gzip.compress(text)) < 100_000


def test_cards_need_no_torch() -> None:
    code = "import sys; from fulgurite.board.cards import build_cards; build_cards(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
