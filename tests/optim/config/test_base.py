"""What every optimizer declares: Adam's state unless it says otherwise, totals, and the refusal of adapters."""

from __future__ import annotations

import pytest

from fulgurite.config.compose import compose
from fulgurite.language.message import message
from fulgurite.optim.config import Decay, Muon, Optim
from fulgurite.optim.config.base import without_adapters


@pytest.mark.parametrize(
    ("shape", "width", "size"), [((10, 3), 4, 8 * 30 + 4), ((10, 3), 2, 4 * 30 + 4), ((7,), 4, 60), ((), 4, 12)]
)
def test_state_is_two_moments_and_a_count_unless_declared(shape: tuple[int, ...], width: int, size: int) -> None:
    assert Optim().state_bytes(shape, width) == size


def test_total_state_sums_all_parameters_and_knows_which_are_hidden() -> None:
    shapes = {"inside": (8, 8), "head": (8, 8), "bias": (8,)}
    one_mean, adam, bias = 4 * 64, 8 * 64 + 4, 8 * 8 + 4
    assert Muon().total_state_bytes(shapes, 4, {"inside"}) == one_mean + adam + bias
    assert Muon().total_state_bytes(shapes, 4, set()) == 2 * adam + bias
    assert Optim().total_state_bytes({}, 4, set()) == 0


def test_adapters_are_refused_in_a_sentence_with_the_reason_and_a_remedy() -> None:
    run = compose(["model=tiny", "method=lora", "optim=adamw"]).run
    assert str(without_adapters(run.optim, run, message("it is a test"))) == (
        "optim=adamw cannot be used with method=lora: it is a test; use optim=adamw, or method=full."
    )
    run = compose(["model=tiny", "method=freeze"]).run
    assert without_adapters(run.optim, run, message("it is a test")) is None


def test_defaults_decay_nothing_and_take_the_tables_rate() -> None:
    assert (Optim().lr, Optim().weight_decay, Optim().weight_decay_on) == (None, 0.0, Decay.matrices)
    assert Optim().own_rate() is None
