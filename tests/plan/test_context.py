"""Sums and shares of what is known of a run before it starts."""

from __future__ import annotations

import pytest
from tests.plan.facts import build_facts

from fulgurite.plan.context import Memory, MemoryPart, ModelFacts


def test_peak_is_that_of_the_largest_phase() -> None:
    training = MemoryPart(weights=1, gradients=20, optimizer=300, activations=4000, logits=50_000, other=600_000)
    assert training.total == 654_321
    assert Memory(training).peak == 654_321
    assert Memory(training, MemoryPart(other=654_320), MemoryPart(weights=700_000)).peak == 700_000
    assert Memory(training, loading=MemoryPart(weights=800_000)).peak == 800_000


@pytest.mark.parametrize(("trained", "parameters", "share"), [(5, 20, 0.25), (20, 20, 1.0), (0, 0, 0.0)])
def test_share_of_trained_parameters(trained: int, parameters: int, share: float) -> None:
    assert ModelFacts(trained=trained, parameters=parameters).share == share


def test_model_without_a_chat_template_is_a_base_model() -> None:
    assert ModelFacts(has_template=False).is_base
    assert not ModelFacts(has_template=True).is_base


def test_given_is_what_a_person_or_their_preset_has_set() -> None:
    facts = build_facts("optim.lr=1e-4", "method=dora")
    assert facts.is_given("optim.lr")
    assert not facts.is_given("method.alpha")  # derived
    assert not facts.is_given("seed")  # the default
    assert not facts.is_given("no.such")
