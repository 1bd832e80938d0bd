"""The rules of layerwise: how they are read, which parameters they claim, and which are refused."""

from __future__ import annotations

import pytest

from fulgurite.errors import ConfigError
from fulgurite.method.layer_rules import LayerRule, assign_rules, parse
from fulgurite.method.selectors import Names

LINEAR = {f"model.layers.{n}.{part}.weight" for n in range(3) for part in ("q_proj", "mlp")}
NAMES = Names(
    (
        "model.embed_tokens.weight",
        *(f"model.layers.{n}.{part}.weight" for n in range(3) for part in ("q_proj", "mlp", "norm")),
        "model.norm.weight",
    ),
    "model.layers", 3,
)


@pytest.mark.parametrize(("text", "expected"), [
    ("last:2 full lr=0.5", ("last:2", "full", 16, 32.0, 0.5)),
    ("rest lora", ("rest", "lora", 16, 32.0, 10.0)),
    ("rest lora rank=8", ("rest", "lora", 8, 16.0, 10.0)),
    ("mlp lora rank=8 alpha=3 lr=2", ("mlp", "lora", 8, 3.0, 2.0)),
    ("first:1 frozen", ("first:1", "frozen", 16, 32.0, 1.0)),
])
def test_a_rule_is_read_with_its_defaults(text: str, expected: tuple[str, str, int, float, float]) -> None:
    assert parse(text) == LayerRule(text, *expected)


@pytest.mark.parametrize(("text", "says"), [
    ("last:1", "needs frozen, full or lora after the place"), ("last:1 ful", "Did you mean full"),
    ("last:1 full rank=3", "full does not read rank=3"), ("last:1 frozen lr=1", "frozen does not read lr=1"),
    ("last:1 lora rnk=3", "Did you mean rank"), ("last:1 lora rank=x", "not a number"),
    ("last:1 lora rank=2.5", "rank must be a whole number above 0"),
    ("last:1 lora lr=0", "lr must be a number above 0"),
])
def test_rules_that_cannot_be_read_are_refused(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse(text)


def test_rules_claim_their_places_and_rest_the_layers_that_none_names() -> None:
    found = assign_rules(["rest lora", "last:1 full", "embed_tokens frozen"], NAMES, LINEAR)
    kinds = {name: rule.kind for name, rule in found.items()}
    assert kinds == {
        "model.embed_tokens.weight": "frozen",
        **{f"model.layers.2.{part}.weight": "full" for part in ("q_proj", "mlp", "norm")},
        **{f"model.layers.{n}.{part}.weight": "lora" for n in (0, 1) for part in ("q_proj", "mlp")},  # no norms
    }


@pytest.mark.parametrize(("rules", "says"), [
    (["last:1 full", "layers:2 lora"], r"overlap at model\.layers\.2\.q_proj\.weight"),
    (["nowhere full"], "matches nothing"), (["last:1 frozen"], "nothing is trained"), ([], "nothing is trained"),
    (["all full", "rest lora"], "has no layer left"), (["norm lora"], "finds no linear layer to adapt at norm"),
    (["rest full", "rest lora"], "one rule only"),
])
def test_rules_that_cannot_be_assigned_are_refused(rules: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        assign_rules(rules, NAMES, LINEAR)
