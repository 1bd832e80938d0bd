"""What each loss of the DPO family declares, and which losses read a parameter."""

from __future__ import annotations

import pytest
import torch

from fulgurite.config.compose import compose
from fulgurite.config.losses import load_function
from fulgurite.stage.preference_table import ReferenceMode, get_row, list_names, list_normalizing, list_reading


@pytest.mark.parametrize("name", list_names())
def test_each_loss_has_its_own_values_with_a_reason(name: str) -> None:
    composed = compose(["stage=dpo", f"stage.loss={name}"])
    stage, row = composed.run.stage, get_row(name)
    assert (stage.label_smoothing, stage.tau, stage.sft_weight) == (row.smoothing, row.tau, row.sft_weight)
    assert (stage.beta, stage.orpo_weight) == ((None, row.beta) if name == "orpo" else (row.beta, None))
    assert stage.get_factor() == row.beta
    assert stage.gamma == (1.0 if name == "simpo" else None)
    assert stage.reference_mode == (ReferenceMode.adapter if row.reference else None)
    assert composed.provenance["stage.beta"].origin == "derived"
    assert name in composed.provenance["stage.beta"].reason


@pytest.mark.parametrize(("parameter", "readers"), [
    ("smoothing", ["sigmoid", "robust", "exo_pair", "aot", "simpo", "cpo"]), ("gamma_share", ["simpo"]),
    ("tau", ["discopop"]),
])
def test_losses_that_read_a_parameter(parameter: str, readers: list[str]) -> None:
    assert list_reading(parameter) == readers


def test_length_normalisation_is_read_by_two_losses_and_changes_one_of_them() -> None:
    assert list_normalizing() == ["sigmoid", "ipo"]
    for name in list_names():
        assert (get_row(name, True) is not get_row(name)) == (name == "sigmoid")
        assert get_row(name, False) is get_row(name)
    assert (get_row("sigmoid").beta, get_row("sigmoid", True).beta) == (0.1, 5.0)
    with pytest.raises(KeyError):
        get_row("sigmoidal")


ONE_MARGIN = [name for name in list_names() if not (get_row(name).ranked or get_row(name).shifted or get_row(name).tau)]
"""The losses of a pair alone that fall from a margin of 0: discopop rises from there."""


@pytest.mark.parametrize("name", ONE_MARGIN)
def test_a_formula_pushes_the_chosen_answer_as_declared(name: str) -> None:
    """At its usual values and a margin of zero: upwards; the one that lowers both does so once the margin is won."""
    row = get_row(name)
    more = {"smoothing": row.smoothing} if row.smoothing is not None else {}
    more |= {"gamma": row.gamma_share * row.beta} if row.gamma_share is not None else {}
    margin = 2 / row.beta if row.lowers_chosen else 0.0
    chosen, rejected = torch.tensor([-0.5], requires_grad=True), torch.tensor([-0.5 - margin])
    load_function(row.formula)(chosen, rejected, row.beta, **more).sum().backward()
    assert chosen.grad is not None
    assert (float(chosen.grad) > 0) == row.lowers_chosen
