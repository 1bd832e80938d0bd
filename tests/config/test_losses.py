"""The registry of losses: a name is taken once in a family, and a formula is imported only if it is asked for."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from fulgurite.config import losses
from fulgurite.config.losses import Loss, find_loss, get_loss, load_formula, load_function, register_loss
from fulgurite.errors import ConfigError


@pytest.fixture(autouse=True)
def _empty_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "_families", {})


def test_a_name_has_one_loss_in_a_family() -> None:
    one, other = Loss(formula="math:sqrt"), Loss(formula="math:exp")
    register_loss("pairs", "mine", one)
    register_loss("pairs", "mine", one)
    register_loss("language", "mine", other)
    with pytest.raises(ValueError, match=r"stage\.loss=mine of pairs is math:sqrt already"):
        register_loss("pairs", "mine", other)
    assert (losses.list_losses("pairs"), losses.list_losses("language")) == ({"mine": one}, {"mine": other})


def test_a_name_that_no_family_has_declares_the_defaults() -> None:
    register_loss("pairs", "mine", Loss(likelihood=False))
    assert not find_loss("pairs", "mine").likelihood
    assert find_loss("pairs", "other") == find_loss("nowhere", "mine") == Loss()
    assert losses.list_losses("nowhere") == {}


def test_a_stage_has_the_loss_of_its_own_family() -> None:
    register_loss("pairs", "mine", Loss(squared=True))
    assert get_loss(SimpleNamespace(losses="pairs", loss="mine")).squared
    assert not get_loss(SimpleNamespace(losses="language", loss="mine")).squared
    assert get_loss(SimpleNamespace(losses="pairs")) == Loss()


def test_a_formula_is_the_function_that_it_names() -> None:
    assert load_formula(Loss(formula="math:sqrt"), "mine") is math.sqrt is load_function("math:sqrt")


@pytest.mark.parametrize("formula", ["", "math", "math:nothing", "no_such_module:f"])
def test_a_formula_that_cannot_be_imported_is_refused(formula: str) -> None:
    with pytest.raises(ConfigError, match=rf"stage\.loss=mine has no formula: '{formula}' cannot be imported"):
        load_formula(Loss(formula=formula), "mine")
