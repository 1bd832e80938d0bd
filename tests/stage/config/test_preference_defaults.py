"""Defaults of the parameters of preference stages: each value has its own reason."""

from __future__ import annotations

import pytest

from fulgurite.config.compose import compose
from fulgurite.stage.preference_table import get_row, list_names


@pytest.mark.parametrize("loss", list_names())
def test_the_source_of_beta_is_the_reason_of_no_other_parameter(loss: str) -> None:
    """Each derived value has a reason of its own."""
    source = str(get_row(loss).source)
    found = compose(["stage=dpo", f"stage.loss={loss}"]).provenance
    reasons = {name: decision.reason for name, decision in found.items() if decision.derived}
    weight = f"stage.{get_row(loss).weight}"
    assert [name for name, reason in reasons.items() if source in str(reason)] == [weight]
    assert len(set(reasons.values())) == len(reasons), reasons
