"""The rules of steps.py: how many steps there are, and whether early stopping can end a run."""

from __future__ import annotations

import pytest
from tests.plan.facts import build_facts, find_trouble
from tests.plan.rules.cases import rules_of

from fulgurite.plan.context import DataFacts

FEW_STEPS = [(9, "error"), (10, "warning"), (49, "warning"), (50, "note"), (199, "note")]


def test_every_rule_has_tests() -> None:
    assert rules_of("steps") == {"steps.too-few", "steps.patience"}


@pytest.mark.parametrize(("steps", "severity"), FEW_STEPS)
def test_severity_grows_as_steps_get_fewer(steps: int, severity: str) -> None:
    found = find_trouble("steps.too-few", build_facts(steps=steps, data=DataFacts(rows=91)))
    assert found is not None
    assert found.severity == severity
    assert f"{steps} optimizer steps (91 examples" in str(found.sentence)


def test_enough_steps_or_requested_steps_are_no_trouble() -> None:
    assert find_trouble("steps.too-few", build_facts(steps=200)) is None
    assert find_trouble("steps.too-few", build_facts("trainer.max_steps=2", steps=2)) is None


def test_remedy_of_few_steps_is_the_batch_size_if_it_was_given_else_epochs() -> None:
    given = build_facts("trainer.global_batch_size=64", steps=17, data=DataFacts(rows=500))
    assert find_trouble("steps.too-few", given).remedy == "trainer.global_batch_size=21"
    assert find_trouble("steps.too-few", build_facts(steps=40)).remedy == "trainer.epochs=3"
    assert find_trouble("steps.too-few", build_facts(steps=90)).remedy == "trainer.epochs=3"


def test_remedy_of_few_steps_stays_within_the_usual_epochs() -> None:
    """More epochs than are usual would be the next warning."""
    few = build_facts("trainer.epochs=3", steps=40)
    assert few.run.trainer.global_batch_size > 8
    remedy = find_trouble("steps.too-few", few).remedy
    assert remedy.startswith("trainer.global_batch_size=")
    again = build_facts("trainer.epochs=3", remedy, steps=40)
    assert find_trouble("value.unusual", again) is None
    smallest = build_facts("trainer.epochs=3", "trainer.global_batch_size=8", steps=40)
    assert find_trouble("steps.too-few", smallest).remedy == "plan.allow=[steps.too-few]"


def test_plan_allow_turns_the_refusal_off() -> None:
    assert find_trouble("steps.too-few", build_facts(steps=5)).refuses
    allowed = find_trouble("steps.too-few", build_facts("plan.allow=[steps.too-few]", steps=5))
    assert allowed.allowed
    assert not allowed.refuses


def test_patience_longer_than_the_run_is_a_warning() -> None:
    words = ("trainer.early_stopping_patience=4", "trainer.eval_every=200")
    found = find_trouble("steps.patience", build_facts(*words, steps=1000))
    assert found is not None
    assert found.severity == "warning"
    assert "waits for 4 evaluations after the best one" in str(found.sentence)
    assert "and 1,000 steps have 5 (trainer.eval_every=200)" in str(found.sentence)
    assert found.remedy == "trainer.eval_every=83"
    mended = build_facts("trainer.early_stopping_patience=4", found.remedy, steps=1000)
    assert find_trouble("steps.patience", mended) is None
    every_step = build_facts("trainer.early_stopping_patience=3", "trainer.eval_every=1", steps=3)
    assert find_trouble("steps.patience", every_step).remedy == "trainer.early_stopping_patience=null"


def test_patience_that_can_run_out_or_none_is_no_trouble() -> None:
    words = ("trainer.early_stopping_patience=3", "trainer.eval_every=200")
    assert find_trouble("steps.patience", build_facts(*words, steps=1000)) is None
    assert find_trouble("steps.patience", build_facts("trainer.eval_every=200", steps=1000)) is None
