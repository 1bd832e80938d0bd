"""Sentences as data: filled when they are shown, in the language in use, and stored in English."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from fulgurite.errors import ConfigError
from fulgurite.language import catalogue
from fulgurite.language.current import use_language
from fulgurite.language.message import UserMessage, as_message, get_english, message, read_message


@pytest.fixture(autouse=True)
def _chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"{n} rows in {where}": "{where} 中有 {n} 条样本", "the file {name}": "文件 {name}"}
    monkeypatch.setattr(catalogue, "load_messages", lambda language: texts)
    catalogue.missed.clear()


def test_a_sentence_takes_the_language_in_which_it_is_shown() -> None:
    where = message("the file {name}", name="a.json")
    made = message("{n} rows in {where}", n=3, where=where)
    assert str(made) == "3 rows in the file a.json"
    with use_language("zh"):
        assert str(made) == f"{made}" == "文件 a.json 中有 3 条样本"
        assert made.english == get_english(made) == "3 rows in the file a.json"
        assert str(message("{name}: {n}", name="x", n=1)) == "x: 1"
    assert not catalogue.missed, "a template without words has no translation"


def test_an_unknown_sentence_stays_english_and_is_noted() -> None:
    with use_language("zh"):
        assert str(message("never written")) == "never written"
    assert catalogue.missed == {("message", "template", "never written")}
    catalogue.missed.clear()


def test_a_sentence_without_facts_may_hold_braces() -> None:
    assert str(UserMessage("a {b} c")) == "a {b} c"
    assert as_message("a {b}") == UserMessage("a {b}")
    assert not UserMessage()


def test_a_sentence_is_read_back_from_its_stored_form() -> None:
    made = message("{n} rows in {where}", n=3, where=message("the file {name}", name=Path("a.json")))
    found = read_message(json.loads(json.dumps(made.to_json())))
    assert str(found) == "3 rows in the file a.json"
    assert found.facts["where"].facts == {"name": "a.json"}


def test_an_error_is_a_sentence_and_survives_a_process() -> None:
    error = pickle.loads(pickle.dumps(ConfigError("the file {name}", name="a.json")))
    assert isinstance(error, ConfigError)
    assert str(error) == "the file a.json"
    with use_language("zh"):
        assert str(error) == "文件 a.json"
    assert str(ConfigError(message("the file {name}", name=1))) == "the file 1"
    assert str(ConfigError("100% {x}")) == "100% {x}"
