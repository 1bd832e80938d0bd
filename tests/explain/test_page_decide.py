"""The first screen: questions, an answer that is there without a script, and every other answer for the script."""

from __future__ import annotations

import json
import re

import pytest

from fulgurite.config.run import load_options
from fulgurite.explain import page_decide as decide
from fulgurite.explain.decision_table import DATA, MACHINES, choose_method, find_setting
from fulgurite.explain.layout import format_value
from fulgurite.explain.model_shapes import SHAPES
from fulgurite.language import use_language

load_options()


def test_every_answer_is_stored() -> None:
    stored = json.loads(decide.build_answers_json().replace("<\\/", "</"))
    for data in DATA:
        for machine in MACHINES:
            for shape in SHAPES:
                numbers = stored["answers"][data.key][machine.key][shape.label]
                stage, method, lr, reason, _, _, words = (stored["pieces"][n] for n in numbers)
                choice = choose_method(data.stage, shape, machine)
                assert f"stage={data.stage}" in stage
                assert f"method={choice.method}" in method
                assert words.startswith(f"stage={data.stage} method={choice.method} ")
                value = find_setting(data.stage, choice.method, shape.billions, "optim.lr").value
                assert f"<b>{format_value(value)}</b>" in lr
                assert decide.REASON in lr
                assert reason


def test_the_answers_cannot_end_their_script() -> None:
    assert "</" not in decide.build_answers_json()


def test_the_first_answer_and_the_tables_are_there_without_a_script() -> None:
    page = decide.build_decision()
    assert page.count(" checked") == 3
    assert "fulgurite plan <span data-words>stage=sft method=lora model=hf" in page
    assert "fulgurite train <span data-words>stage=sft" in page
    assert re.search(r'<details class="tables">.*stage=kto.*QL?oRA|qlora', page)
    assert page.count("<table") == 3


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_table_of_rates_is_that_of_the_declarations(method: str) -> None:
    table = decide.tabulate_rates((method,))
    for shape in SHAPES:
        value = find_setting("dpo", method, shape.billions, "optim.lr").value
        assert f"<td>{format_value(value)}</td>" in table


def test_reasons_are_those_of_the_rules_or_what_empty_means() -> None:
    found = find_setting("sft", "lora", 7.6, "trainer.epochs")
    assert decide.explain_setting(found) == str(found.derived.because)  # type: ignore[union-attr]
    with use_language("zh"):
        assert re.search(r"[\u4e00-\u9fff]", decide.explain_setting(found))
    assert decide.find_knob(found).path == "trainer.epochs"
    assert decide.get_empty_words(found)


def test_pieces_are_numbered_once() -> None:
    numbers: dict[str, int] = {}
    assert [decide.number_piece(numbers, piece) for piece in "aba"] == [0, 1, 0]
