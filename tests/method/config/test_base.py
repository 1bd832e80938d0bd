"""What every method declares, and what follows from an adapter: how the model is loaded and whose rates it takes."""

from __future__ import annotations

import pytest

from fulgurite.config.run import load_options
from fulgurite.config.schema import has_declared, list_options
from fulgurite.method.config import Freeze, Method, Part

load_options()
METHODS: dict[str, type[Method]] = list_options("method")  # type: ignore[assignment]


def test_a_method_trains_the_model_itself_unless_it_declares_otherwise() -> None:
    plain = Method()
    assert (plain.kin, plain.lr_like, plain.lr_factor) == ("full", "full", 1.0)
    assert plain.begins_at_zero()
    assert plain.base_change() is None
    assert plain.trains_head()
    assert plain.outlined() is plain


@pytest.mark.parametrize("name", sorted(METHODS))
def test_adapters_load_the_base_in_the_dtype_of_frozen_weights(name: str) -> None:
    method = METHODS[name]
    assert method.loads_trained == (not method.adapter)
    assert method.kin == ("lora" if method.adapter else "full")
    assert not (method.adapter and method.whole)


def test_remedies_for_memory_are_quantised_methods_with_the_same_parameters() -> None:
    found = {name: method.quantised_as for name, method in METHODS.items() if method.quantised_as}
    assert found == {"lora": "qlora"}
    assert METHODS["qlora"].quantised
    assert issubclass(METHODS["qlora"], METHODS["lora"])


def test_privacy_is_declared_by_each_method_for_itself() -> None:
    assert {name for name, method in METHODS.items() if has_declared(method, "private")} == {"full", "freeze", "lora"}


def test_freeze_trains_the_head_only_if_it_is_named() -> None:
    assert not Freeze().trains_head()
    assert Freeze(extra_trainable=[Part.head]).trains_head()
