"""What is known of data, model and machine: nothing at first, then what the rules of empty parameters read."""

from __future__ import annotations

import pytest

from fulgurite.config.compose import compose
from fulgurite.config.facts import Facts
from fulgurite.config.resolve import fill


def test_nothing_is_known_at_first_and_other_names_are_refused() -> None:
    facts = Facts()
    assert (facts.percentile_99, facts.rows, facts.model_length, facts.total_steps) == (0, 0, 0, 0)
    assert (facts.device, facts.processes) == ("cpu", 1)
    with pytest.raises(AttributeError):
        facts.row = 3  # type: ignore[attr-defined]


@pytest.mark.parametrize(("facts", "length", "batch"), [
    (Facts(percentile_99=100, rows=5000, model_length=2048), 128, 16),
    (Facts(percentile_99=100, rows=400, model_length=2048), 128, 8),
    (Facts(percentile_99=100, rows=5000, model_length=64), 64, 16),
])
def test_rules_read_the_length_the_rows_and_the_limit_of_the_model(facts: Facts, length: int, batch: int) -> None:
    run = fill(compose(["method=lora"]), facts, "data").run
    assert (run.data.max_length, run.trainer.global_batch_size) == (length, batch)
