"""The rules of `method=layerwise`, read and held against a model's parameter names. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fulgurite.errors import ConfigError, suggest_similar
from fulgurite.language.message import message
from fulgurite.method.selectors import Names, match_names

KINDS = ("frozen", "full", "lora")
OPTIONS = ("rank", "alpha", "lr")
LORA_TIMES = 10.0
"""LoRA takes about ten times the rate of full fine-tuning (TRL, verified)."""


@dataclass(frozen=True, slots=True)
class LayerRule:
    """One rule: where, what, and with which factor on the learning rate."""

    text: str
    place: str
    kind: str
    rank: int = 16
    alpha: float = 32.0
    lr: float = 1.0


def parse(text: str) -> LayerRule:
    """Parses `last:2 full lr=0.5`. Raises ConfigError with the form of a rule."""
    place, *words = text.split()
    if not words or words[0] not in KINDS:
        raise ConfigError(
            "method.rules: {text!r} needs frozen, full or lora after the place.{hint} Write PLACE KIND [rank= alpha= "
            "lr=].",
            text=text, hint=suggest_similar(words[0], KINDS) if words else "",
        )
    given = {}
    for word in words[1:]:
        name, _, value = word.partition("=")
        # rank and alpha belong to lora rules; a frozen place takes no option.
        if name not in OPTIONS or (name != "lr" and words[0] != "lora") or words[0] == "frozen":
            raise ConfigError(
                "method.rules: {text!r}: {kind} does not read {word}.{hint}",
                text=text, word=word, kind=words[0], hint=suggest_similar(name, OPTIONS),
            )
        try:
            given[name] = float(value)
        except ValueError as error:
            raise ConfigError("method.rules: {text!r}: {word} is not a number.", text=text, word=word) from error
        if not given[name] > 0 or (name == "rank" and given[name] != int(given[name])):
            raise ConfigError(
                "method.rules: {text!r}: {name} must be {kind} above 0.",
                text=text, name=name,
                kind=message("a whole number") if name == "rank" else message("a number"),
            )
    rank = int(given.get("rank", 16))
    usual = LORA_TIMES if words[0] == "lora" else 1.0
    return LayerRule(text, place, words[0], rank, given.get("alpha", 2.0 * rank), given.get("lr", usual))


def assign_rules(texts: list[str], where: Names, linear: set[str]) -> dict[str, LayerRule]:
    """The rule of each claimed parameter; a lora rule claims the weights of linear layers, which `linear` names, alone.

    `rest` names the layers of no other rule. Raises ConfigError for overlaps and for what matches nothing.
    """
    rules = [parse(text) for text in texts]
    if sum(rule.place == "rest" for rule in rules) > 1:
        raise ConfigError("method.rules: rest can be in one rule only.")
    found: dict[str, LayerRule] = {}
    # `rest` last, whatever its place in the list: it takes what the others left.
    for rule in sorted(rules, key=lambda rule: rule.place == "rest"):
        for name in _claimed(rule, where, linear, found):
            if name in found:
                raise ConfigError(
                    "method.rules: {one!r} and {other!r} overlap at {name}; make their places disjoint.",
                    one=found[name].text, other=rule.text, name=name,
                )
            found[name] = rule
    if all(rule.kind == "frozen" for rule in found.values()):
        raise ConfigError("method.rules: nothing is trained; give a rule with full or lora.")
    return found


def _claimed(rule: LayerRule, where: Names, linear: set[str], taken: Mapping[str, LayerRule]) -> list[str]:
    if rule.place == "rest":
        # Whole layers: a rule for one parameter of a layer takes the layer out of `rest`.
        named = {where.layer(name) for name in taken}
        names = [name for name in where.all if where.layer(name) is not None and where.layer(name) not in named]
        if not names:
            raise ConfigError(
                "method.rules: {text!r} has no layer left; the other rules name them all.", text=rule.text
            )
    else:
        names = match_names(rule.place, where.all, where, "method.rules")
    if rule.kind != "lora":
        return names
    adapted = [name for name in names if name in linear]
    if not adapted:
        raise ConfigError(
            "method.rules: {text!r} finds no linear layer to adapt at {place}.",
            text=rule.text, place=rule.place,
        )
    return adapted
