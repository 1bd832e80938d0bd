"""The rules of template.py: how a conversation becomes tokens."""

from __future__ import annotations

import pytest
from tests.plan.rules.cases import Case, check_complete, check_found, check_not_found, data, describe, model

FOUND = [
    Case(
        "template.unsure", "", {"model": model(has_template=False)}, "warning",
        "my-model has no chat template: chatml is used",
    ),
    Case(
        "template.unsure", "data.template=alpaca", {}, "warning", "data.template=alpaca replaces the chat template",
        "data.template=null",
    ),
    Case(
        "data.no-end", "", {"data": data(no_end=12)}, "error", "12 answers have no end token",
        "data.template=chatml plan.allow=[template.unsure]",
    ),
    Case("data.no-end", "data.template=alpaca", {"data": data(no_end=12)}, "error", "12 answers", "data.template=null"),
    Case(
        "data.two-starts", "", {"data": data(two_starts=2, first_two_starts="a.jsonl:4")}, "error",
        "the first at a.jsonl:4",
    ),
    Case(
        "tokens.new", "method=freeze method.extra_trainable=[embeddings] model.add_tokens=['<x>']",
        {"model": model(tied=False)}, "error", "1 new tokens, but the head, which is not tied",
        "method.extra_trainable=[embeddings,head]",
    ),
]
NOT_FOUND = [
    Case("template.unsure"),
    Case("template.unsure", "stage=pt", {"model": model(has_template=False)}),
    Case("data.no-end"),
    Case("data.two-starts"),
    Case("tokens.new", "model.add_tokens=['<x>']", {"model": model(tied=False)}),
    Case(
        "tokens.new", "method=freeze method.extra_trainable=[embeddings] model.add_tokens=['<x>']",
        {"model": model(tied=True)},
    ),
]


def test_every_rule_has_cases() -> None:
    check_complete("template", FOUND, NOT_FOUND)


@pytest.mark.parametrize("case", FOUND, ids=describe)
def test_rule_finds_the_trouble_and_its_remedy_mends_it(case: Case) -> None:
    check_found(case)


@pytest.mark.parametrize("case", NOT_FOUND, ids=describe)
def test_rule_finds_nothing_in_a_sound_run(case: Case) -> None:
    check_not_found(case)
