"""Held-out numbers are those that the run itself logged, and follow from the loss."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from tests.end_to_end.runs import rows as read_rows

from fulgurite.config.guard import Allowed
from fulgurite.evaluate.held_out import compute_language_numbers, measure_held_out
from fulgurite.evaluate.subject import draw_rows, load_run_subject


@pytest.mark.parametrize("name", ["sft", "dpo", "rm", "kto"])
@pytest.mark.parametrize("step", [2, 4])
def test_numbers_are_those_of_the_run_s_validation(name: str, step: int, request: pytest.FixtureRequest) -> None:
    """Bit for bit as float32, in which Lightning logs them."""
    folder: Path = request.getfixturevalue(name)
    subject = load_run_subject(folder, f"step-{step}", Allowed(), [], True)
    assert subject.data is not None
    assert subject.stage is not None
    found = measure_held_out(subject.stage, subject.data.rows, subject.tokenizer)
    (row,) = [row for row in read_rows(folder) if row["step"] == step and "val/loss" in row]
    logged = {key.removeprefix("val/"): value for key, value in row.items() if key.startswith("val/")}
    assert {key: float(np.float32(found.numbers[key])) for key in logged} == logged
    if name == "sft":
        assert found.numbers["perplexity"] == pytest.approx(math.exp(found.numbers["loss"]))
        assert not found.bins
    else:
        assert sum(one.count for one in found.bins) == found.units == len(subject.data.rows)
        right = sum(one.count * one.accuracy for one in found.bins) / found.units
        assert found.numbers["accuracy"] == pytest.approx(right)


def test_bits_per_byte_by_hand() -> None:
    """2 nats a token, 3 bytes a token: 2 / (ln 2 * 3) bits a byte."""
    found = compute_language_numbers(2.0, tokens=10, text_bytes=30)
    assert found == pytest.approx({"perplexity": math.e**2, "bits_per_byte": 2 / (math.log(2) * 3)})


def test_a_byte_a_token_of_one_bit() -> None:
    assert compute_language_numbers(math.log(2), 7, 7)["bits_per_byte"] == pytest.approx(1.0)


def test_numbers_that_do_not_exist_are_left_out() -> None:
    assert compute_language_numbers(800.0, 1, 0) == {}


def test_modes_and_observer_are_restored(sft: Path) -> None:
    subject = load_run_subject(sft, "start", Allowed(), [], True)
    assert subject.data is not None
    assert subject.stage is not None
    stage, before = subject.stage, subject.stage.observe
    stage.train()
    some = draw_rows(subject.data.rows, 3, 0)
    first = measure_held_out(stage, some, subject.tokenizer)
    assert stage.training
    assert all(module.training for module in stage.modules())
    assert stage.observe is before
    assert measure_held_out(stage, some, subject.tokenizer) == first
