"""The rules of model.py: what the model can do, and what loading mends."""

from __future__ import annotations

import pytest
from tests.plan.rules.cases import Case, check_complete, check_found, check_not_found, data, describe, model

FOUND = [
    Case(
        "model.not-causal", "", {"model": model(architecture="BertLMHeadModel", causal=False)}, "error",
        "is_decoder=true",
    ),
    Case(
        "model.vocabulary", "", {"data": data(without_row=["<a>", "</a>"]), "model": model(vocab=512)}, "error",
        "The model's embedding has 512 rows, and none for '<a>', '</a>'", """model.add_tokens='["<a>","</a>"]'""",
    ),
    Case("model.attention", "", {"model": model(attention="eager")}, "warning", "no sdpa attention"),
    Case("model.mended", "", {"model": model(notes=["The padding token is number 512."])}, "warning", "number 512"),
]
NOT_FOUND = [
    Case("model.not-causal", "", {"model": model(causal=True)}),
    Case("model.not-causal"),
    Case("model.mended"),
    Case("model.attention"),
    Case("model.attention", "model.attention=eager", {"model": model(attention="eager")}),
    Case("model.vocabulary", "", {"data": data(), "model": model(vocab=512)}),
]


def test_every_rule_has_cases() -> None:
    check_complete("model", FOUND, NOT_FOUND)


@pytest.mark.parametrize("case", FOUND, ids=describe)
def test_rule_finds_the_trouble_and_its_remedy_mends_it(case: Case) -> None:
    check_found(case)


@pytest.mark.parametrize("case", NOT_FOUND, ids=describe)
def test_rule_finds_nothing_in_a_sound_run(case: Case) -> None:
    check_not_found(case)
