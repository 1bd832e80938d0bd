"""The time of a run from measured micro-batches, by hand."""

from __future__ import annotations

import pytest
from tests.plan.facts import build_facts

from fulgurite.plan.context import DataFacts, Machine
from fulgurite.plan.timing import Timing, format_seconds


@pytest.mark.parametrize(("processes", "evaluations"), [(1, 3), (2, 3)])
def test_seconds_of_training_and_evaluation(processes: int, evaluations: int) -> None:
    facts = build_facts(
        "trainer.global_batch_size=8", "trainer.eval_every=40", steps=100,
        data=DataFacts(rows=50, val_rows=6, tokens=1000), machine=Machine(processes=processes),
    )
    found = Timing(token=0.01, optimizer=0.25, tokens=640).estimate_seconds(facts)
    # 100 steps of 8 rows of 20 tokens; 3 evaluations of 6 rows, each a third of the cost
    assert found["training"] == pytest.approx(100 * (8 * 20 * 0.01 / processes + 0.25))
    assert found["evaluation"] == pytest.approx(evaluations * 6 * 20 * 0.01 / 3 / processes)


def test_no_validation_takes_no_time() -> None:
    facts = build_facts(steps=100, data=DataFacts(rows=50, tokens=1000))
    assert Timing(0.01, 0.25, 640).estimate_seconds(facts)["evaluation"] == 0


def test_sentence_has_the_measured_speed() -> None:
    facts = build_facts("trainer.global_batch_size=8", steps=100, data=DataFacts(rows=50, tokens=1000))
    text = str(Timing(0.01, 0.25, 640).describe(facts))
    assert text.startswith("about 3.08 min of training and 0 s of evaluation: measured now on 640 tokens, 100 tokens/s")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(40, "40 s"), (119, "119 s"), (120, "2 min"), (3600, "60 min"), (7200, "2 h"), (12_240, "3.4 h"),
     (95 * 3600, "95 h"), (96 * 3600, "4 days")],
)
def test_durations_in_words(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
