"""The micro-batch that fits into the free memory."""

from __future__ import annotations

import pytest
from tests.plan.tiny import compose_tiny

from fulgurite.plan import memory, micro_batch
from fulgurite.plan.context import Machine, Memory, MemoryPart, ModelFacts
from fulgurite.plan.micro_batch import fit_memory


def test_derived_micro_batch_is_halved_until_it_fits_and_a_given_one_is_kept() -> None:
    composed, _, facts = compose_tiny("method=full", "precision=fp32", "trainer.global_batch_size=16")
    before = composed.run.trainer.micro_batch_size
    assert before == 8
    assert fit_memory(composed, facts, None, Machine(memory_free=10**12)) is composed
    need = memory.estimate(composed.run, facts, None, Machine()).training.total
    composed = fit_memory(composed, facts, None, Machine(memory_free=need))
    assert composed.run.trainer.micro_batch_size in (1, 2, 4)
    assert "8 would need" in composed.provenance["trainer.micro_batch_size"].reason
    several, _, facts = compose_tiny("method=full", "precision=fp32", "trainer.global_batch_size=16")
    two = Machine(memory_free=need, processes=2)  # each would see other memory free
    assert fit_memory(several, facts, None, two) is several
    given, _, facts = compose_tiny("method=full", "precision=fp32", "trainer.micro_batch_size=8")
    assert fit_memory(given, facts, None, Machine(memory_free=1)) is given


@pytest.mark.parametrize(("free", "rows"), [(1000, 8), (400, 4), (201, 2), (1, 1)])
def test_micro_batch_is_the_largest_half_whose_peak_is_below_nine_tenths(
    free: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    composed, _, _ = compose_tiny("method=full", "precision=fp32", "trainer.global_batch_size=16")
    assert composed.run.trainer.micro_batch_size == 8
    # a stand-in for the estimate: 90 bytes a row, so that 8 rows need 720 and fit into 800
    monkeypatch.setattr(
        micro_batch, "estimate", lambda run, model, lengths, machine, rows: Memory(MemoryPart(weights=90 * rows))
    )
    fitted = fit_memory(composed, ModelFacts(), None, Machine(memory_free=free))
    assert fitted.run.trainer.micro_batch_size == rows
