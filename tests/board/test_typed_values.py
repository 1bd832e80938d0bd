"""Values as a person types them, read and written for the command line."""

from __future__ import annotations

from typing import Any

import pytest

from fulgurite.board.typed_values import UNSET, DraftError, format_typed, get_kind, parse_typed, write_typed
from fulgurite.config.run import list_all_knobs

KNOBS = {knob.path: knob for knob in reversed(list_all_knobs())}
HF = next(knob for knob in list_all_knobs() if knob.path == "model.path")

TYPED: list[tuple[str, str, Any]] = [
    ("optim.lr", "1e-4", 1e-4), ("optim.lr", " ５ｅ－５ ", 5e-5), ("optim.lr", "", None),
    ("optim.lr", "none", None),
    ("optim.lr", "1_000.5", 1000.5), ("method.rank", "１６", 16), ("trainer.max_grad_norm", "", UNSET),
    ("seed", "7", 7),
    ("data.packing", "none", "none"), ("data.packing", "Best_Fit", "best_fit"), ("data.packing", "", None),
    ("stage.loss", "DFT", "dft"), ("data.shuffle", "no", False), ("data.shuffle", "true", True),
    ("data.template", "", None), ("data.template", "chatml", "chatml"), ("model.path", "null", "null"),
    ("model.path", "a, b 'c' {d} ${e}\n数据８", "a, b 'c' {d} ${e}\n数据８"), ("model.path", "", ""),
    ("data.path", "my data, v2.jsonl", ["my data, v2.jsonl"]),
    ("data.path", "[a.jsonl, 'b, c.jsonl']", ["a.jsonl", "b, c.jsonl"]),
    ("data.path", "", []), ("data.path", "[]", []), ("stage.prompts", "", None), ("stage.prompts", "[]", []),
    ("stage.prompts", "Hello, who are you?", ["Hello, who are you?"]),
    ("method.targets", "q_proj,v_proj", ["q_proj", "v_proj"]),
    ("stage.prompts", r"['it\'s', \"x\", Don't]", ["it's", r'\"x\"', "Don't"]),
    ("optim.betas", "[0.9, 0.99]", [0.9, 0.99]), ("optim.betas", "0.9，0.95", [0.9, 0.95]),
    ("optim.betas", "【0.9，0.95】", [0.9, 0.95]),
    ("data.columns", "{instruction: question, 'a: b': '{c}'}", {"instruction": "question", "a: b": "{c}"}),
    ("data.columns", "instruction: 问题", {"instruction": "问题"}), ("data.columns", "", {}),
    ("method.rank_pattern", "{'.*q_proj': 8}", {".*q_proj": 8}),
    ("data.template_arguments", "{effort: low, on: true, n: 3, deep: {a: [1, x]}}",
     {"effort": "low", "on": True, "n": 3, "deep": {"a": [1, "x"]}}),
]


@pytest.mark.parametrize(("name", "text", "meant"), TYPED)
def test_value_is_read_by_the_kind_of_its_parameter(name: str, text: str, meant: Any) -> None:
    assert parse_typed(KNOBS[name], text) == meant if meant is not UNSET else parse_typed(KNOBS[name], text) is UNSET


@pytest.mark.parametrize(("name", "text", "meant"), [row for row in TYPED if row[2] not in (UNSET, None)])
def test_plain_value_is_formatted_as_it_could_be_typed(name: str, text: str, meant: Any) -> None:
    assert parse_typed(KNOBS[name], format_typed(meant)) == meant


@pytest.mark.parametrize(("name", "text", "part"), [
    ("optim.lr", "5e-5x", "it must be a number"), ("optim.lr", "$(id)", "a number"),
    ("method.rank", "1.5", "a whole number"),
    ("data.shuffle", "maybe", "true or false"), ("data.mask", "some", "one of answers"),
    ("stage.loss", "x", "one of"),
    ("optim.betas", "[a, b]", "a list"), ("data.columns", "{a}", "no pair"),
    ("stage.prompts", "['a]", "quotes"),
    ("name", "a\0b", "NUL"), ("name", "\ud800", "half of a character"), ("name", "x" * 100_001, "bytes"),
    ("data.template_arguments", "{a: [}", "mapping"), ("method.rank", "9" * 5000, "whole number"),
])
def test_value_of_another_kind_is_refused_with_its_parameter(name: str, text: str, part: str) -> None:
    with pytest.raises(DraftError) as caught:
        write_typed(KNOBS[name], text)
    assert part in str(caught.value)
    assert caught.value.about == name


@pytest.mark.parametrize(("number", "text"), [
    (1e-4, "1e-4"), (5.5e-5, "5.5e-5"), (0.05, "0.05"), (3.0, "3"), (-0.002, "-2e-3"), (1.1e20, "1.1e+20"),
    (0.0, "0"),
    (0.1 + 0.2, "0.30000000000000004"), (1.2345678901234567e-5, "1.2345678901234568e-5"), (float("inf"), "inf"),
])
def test_numbers_keep_all_their_digits(number: float, text: str) -> None:
    assert format_typed(number) == text
    assert float(text) == number


def test_every_parameter_has_a_kind() -> None:
    kinds = {get_kind(knob) for knob in KNOBS.values()}
    assert kinds == {"number", "bool", "choice", "list", "map", "text"}


def test_simple_text_is_written_without_quotes_and_other_text_with() -> None:
    assert write_typed(HF, "runs/a-1/b.x") == "runs/a-1/b.x"
    assert write_typed(HF, "/data/m") == "/data/m"
    assert write_typed(HF, "true") == "'true'"
    assert write_typed(HF, "a b") == "'a b'"
    assert write_typed(HF, "${oc.env:HOME}") == r"'\${oc.env:HOME}'"
