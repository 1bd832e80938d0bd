"""Each rule of plan/rules/steps.py: a run that makes it speak, and one that does not."""

from __future__ import annotations

import pytest
from tests.plan.made import said, seen

from fulgurite.plan.context import DataFacts


@pytest.mark.parametrize(("steps", "severity"), [(9, "error"), (10, "warning"), (49, "warning"), (50, "note"), (199, "note")])
def test_too_few_steps_speak_louder_the_fewer_they_are(steps: int, severity: str) -> None:
    found = said("steps.too-few", seen(steps=steps, data=DataFacts(rows=91)))
    assert found is not None
    assert found.severity == severity
    assert f"{steps} optimizer steps (91 rows" in found.sentence


def test_enough_steps_and_asked_for_few_say_nothing() -> None:
    assert said("steps.too-few", seen(steps=200)) is None
    assert said("steps.too-few", seen("trainer.max_steps=2", steps=2)) is None


def test_the_remedy_of_too_few_steps_is_the_batch_where_it_was_given() -> None:
    assert said("steps.too-few", seen("trainer.global_batch_size=64", steps=17,
        data=DataFacts(rows=500))).remedy == "trainer.global_batch_size=21"
    assert said("steps.too-few", seen(steps=40)).remedy == "trainer.epochs=3"
    assert said("steps.too-few", seen(steps=90)).remedy == "trainer.epochs=5"  # from a note to none


def test_an_error_that_was_insisted_on_no_longer_refuses() -> None:
    assert said("steps.too-few", seen(steps=5)).refuses
    allowed = said("steps.too-few", seen("plan.allow=[steps.too-few]", steps=5))
    assert allowed.allowed
    assert not allowed.refuses


def test_a_patience_that_the_run_is_too_short_to_lose_is_told() -> None:
    found = said("steps.patience", seen("trainer.early_stopping_patience=4", "trainer.eval_every=200", steps=1000))
    assert found is not None
    assert found.severity == "warning"
    assert "waits for 4 evaluations after the best one, and 1,000 steps have 5 (trainer.eval_every=200)" in found.sentence
    assert found.remedy == "trainer.eval_every=83"
    assert said("steps.patience", seen("trainer.early_stopping_patience=4", found.remedy, steps=1000)) is None
    assert said("steps.patience", seen("trainer.early_stopping_patience=3", "trainer.eval_every=1",
        steps=3)).remedy == "trainer.early_stopping_patience=null"


def test_a_patience_that_can_be_lost_and_none_say_nothing() -> None:
    assert said("steps.patience", seen("trainer.early_stopping_patience=3", "trainer.eval_every=200",
        steps=1000)) is None
    assert said("steps.patience", seen("trainer.eval_every=200", steps=1000)) is None
