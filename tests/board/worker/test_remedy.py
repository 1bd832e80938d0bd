"""Remedies as changes of a draft."""

from __future__ import annotations

from typing import Any

import pytest
from tests.plan.facts import build_facts
from tests.plan.rules.cases import Case
from tests.plan.rules.test_all import _list_cases

from fulgurite.board.draft import Draft, build_words
from fulgurite.board.open_draft import open_words
from fulgurite.board.worker.remedy import apply_changes, build_changes, find_error_words, find_parameter
from fulgurite.errors import ConfigError, DataError
from fulgurite.plan.rules import find_troubles

ONE_EACH = list({case.rule: case for case in _list_cases()}.values())


def split_words(words: list[str]) -> dict[str, str]:
    return {name.lstrip("+"): value.strip("'\"[]") for name, _, value in (word.partition("=") for word in words)}


@pytest.mark.parametrize("case", ONE_EACH, ids=lambda case: case.rule)
def test_applied_remedy_is_the_run_that_the_rule_recommends(case: Case) -> None:
    """The words of the changed draft are those of the command with the remedy pasted, which clears the finding
    (tests/plan/rules/test_all.py)."""
    draft = open_words(case.overrides.split()).draft
    troubles = find_troubles(build_facts(*case.overrides.split(), **case.facts))
    found = next((trouble for trouble in troubles if trouble.rule == case.rule), None)
    if found is None or not found.remedy or case.rule.startswith("resume."):
        return  # the page resumes a run in another way
    changes = build_changes(draft, found.overrides)
    assert changes is not None
    changed = build_words(apply_changes(draft, changes), is_allowed=lambda path: True)
    pasted = open_words([*case.overrides.split(), *found.overrides]).draft
    dropped = {name for name, text in changes["values"].items() if text is None}
    expected = build_words(pasted, is_allowed=lambda path: True)
    assert split_words(changed) == {name: v for name, v in split_words(expected).items() if name not in dropped}


def test_new_option_takes_away_the_values_that_it_does_not_have() -> None:
    draft = Draft({"method": "full"}, {"method.rank": "8", "optim.lr": "1e-4", "method.targets": "x"})
    changes = build_changes(draft, ["method=freeze", "method.trainable=last:2"])
    assert changes == {
        "choices": {"method": "freeze"},
        "values": {"method.trainable": "last:2", "method.rank": None, "method.targets": None},
    }
    values = {"optim.lr": "1e-4", "method.trainable": "last:2"}
    assert apply_changes(draft, changes) == Draft({"method": "freeze"}, values)


@pytest.mark.parametrize("words", [[], ["hydra.run.dir=x"], ["nonsense"], ["optim.lrr=1"]])
def test_words_that_no_draft_holds_are_no_change(words: list[str]) -> None:
    assert build_changes(Draft(), words) is None


@pytest.mark.parametrize(("sentence", "words"), [
    ("x contains pairs, but stage=sft expects answers; use stage=dpo or stage=rm.", "stage=dpo"),
    ("name them, for example data.columns={instruction: q, output: a}, or set data.format.",
     "data.columns={instruction: q, output: a}"),
    ("precision=fp16 needs a GPU; use precision=bf16 or fp32.", "precision=bf16"),
    ("data=file needs data.path=<file>; use data.path=<file>.", ""), ("Nothing to do.", ""),
    ("use plugins=[evil].", ""), ("use run_dir=/etc.", ""), ("use optim.lr=abc.", ""),
])
def test_words_that_an_error_recommends(sentence: str, words: str) -> None:
    found, changes = find_error_words(DataError(sentence), Draft(), False, None)
    assert found == words
    assert (changes is not None) == bool(words)


@pytest.mark.parametrize(("error", "name"), [
    (ConfigError("{path}={value} is not allowed.", path="optim.lr", value=3), "optim.lr"),
    (ConfigError("With method=lora there is no trainer.max_steps here."), "trainer.max_steps"),
    (ConfigError("stage=dpo cannot be."), "stage"), (ConfigError("Nothing known."), ""),
])
def test_parameter_of_an_error(error: ConfigError, name: str) -> None:
    draft: Any = Draft({"stage": "dpo", "method": "lora"}, {"seed": "1"})
    assert find_parameter(error, draft) == name
