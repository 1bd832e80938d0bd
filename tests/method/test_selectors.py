"""Which parameters a selector names, by hand, and the errors of selectors that name none."""

from __future__ import annotations

import pytest

from fulgurite.errors import ConfigError
from fulgurite.method.selectors import Names, match_names, parse_layers

LAYERS = tuple(f"model.layers.{n}.{part}.weight" for n in range(2) for part in ("self_attn.q_proj", "mlp.up_proj"))
NAMES = Names(("model.embed_tokens.weight", *LAYERS, "model.norm.weight"), "model.layers", 2)


@pytest.mark.parametrize(("place", "expected"), [
    ("all", NAMES.all), ("last:1", LAYERS[2:]), ("first:1", LAYERS[:2]), ("layers:0-1", LAYERS),
    ("layers: 1", LAYERS[2:]), ("mlp", (LAYERS[1], LAYERS[3])), ("*.q_proj.*", (LAYERS[0], LAYERS[2])),
    ("model.norm.weight", ("model.norm.weight",)), ("layers.1", LAYERS[2:]), ("embed*", ("model.embed_tokens.weight",)),
])
def test_a_selector_names_layers_parts_or_a_pattern(place: str, expected: tuple[str, ...]) -> None:
    assert tuple(match_names(place, NAMES.all, NAMES, "method.trainable")) == expected


@pytest.mark.parametrize(("place", "says"), [
    ("last:3", "method.trainable=last:3: .*must be 1 to 2"),
    ("last:0", "must be 1 to 2"), ("first:x", "must be 1 to 2"),
    ("layers:1-5", "is outside this model's layers, 0 to 1"), ("layers:1-0", "is outside this model's layers"),
    ("layers:x", "'x' is no layer"), ("layers:", "'' is no layer"), ("layers:0-", "'0-' is no layer"),
    ("mlq", "method.trainable: mlq matches nothing in the model.*Did you mean mlp"),
    ("lm_head", "the head may be tied to the embeddings"),
])
def test_a_selector_that_names_nothing_is_refused(place: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        match_names(place, NAMES.all, NAMES, "method.trainable")


def test_layer_numbers_by_hand() -> None:
    assert parse_layers("layers", "2,5-7", 8, "") == {2, 5, 6, 7}
    assert parse_layers("last", "3", 8, "") == {5, 6, 7}
    assert parse_layers("first", "3", 8, "") == {0, 1, 2}


@pytest.mark.parametrize(("name", "layer"), [
    ("model.layers.1.mlp.weight", 1), ("model.layers.10.mlp.weight", 10), ("model.norm.weight", None),
    ("model.layers.extra.weight", None), ("other.layers.1.mlp.weight", None),
])
def test_the_layer_of_a_name_is_the_number_after_the_prefix(name: str, layer: int | None) -> None:
    assert NAMES.layer(name) == layer
