"""The rules of export.py: what an export changes or refuses."""

from __future__ import annotations

import pytest
from tests.plan.rules.cases import Case, check_complete, check_found, check_not_found, describe, model

FOUND = [
    Case(
        "export.template", "", {"model": model(template_differs="renders conversations otherwise than training does.")},
        "error", "The exported tokenizer renders conversations otherwise",
        "data.template=chatml plan.allow=[template.unsure]",
    ),
    Case(
        "export.generation", "", {"model": model(invalid_generation={"temperature": 0.6, "top_p": 0.9})}, "note",
        "what transformers refuses there: temperature=0.6, top_p=0.9.",
    ),
    Case(
        "export.padding", "stage=rm", {"model": model(free_padding=False)}, "note",
        "an export with merge=true adds one",
    ),
    Case("export.apart", "method.init=pissa", {}, "note", "started with method.init=pissa"),
    Case("export.apart", "model.add_tokens=[xx]", {}, "note", "This run added tokens"),
]
NOT_FOUND = [
    Case("export.template"),
    Case("export.generation"),
    Case("export.generation", "stage=rm", {"model": model(invalid_generation={"top_p": 1})}),
    Case("export.padding", "stage=rm"),
    Case("export.padding", "", {"model": model(free_padding=False)}),
    Case("export.apart"),
    Case("export.apart", "method=full model.add_tokens=[xx]"),
]


def test_every_rule_has_cases() -> None:
    check_complete("export", FOUND, NOT_FOUND)


@pytest.mark.parametrize("case", FOUND, ids=describe)
def test_rule_finds_the_trouble_and_its_remedy_mends_it(case: Case) -> None:
    check_found(case)


@pytest.mark.parametrize("case", NOT_FOUND, ids=describe)
def test_rule_finds_nothing_in_a_sound_run(case: Case) -> None:
    check_not_found(case)
