"""Layerwise: each rule freezes layers, trains them whole or adapts them, with a rate of its own; see rules.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from fulgurite.method import config as c
from fulgurite.method import modules as parts
from fulgurite.method.adapters import attach, task
from fulgurite.method.layer_rules import LayerRule, assign_rules
from fulgurite.model.peft_internals import get_plain_name
from fulgurite.model.unwrap import unwrap_model
from fulgurite.optim.param_groups import scale_rate
from fulgurite.precision.policy import Dtypes


def build(config: c.Layerwise, model: PreTrainedModel, dtypes: Dtypes) -> Any:
    """Returns the model, with the adapters of `lora` rules. Raises ConfigError if rules overlap or match nothing."""
    # Before peft wraps the model, because rules are written for its plain names.
    where = parts.collect_names(model)
    linear = {f"{name}.weight" for name in parts.find_linear_layers(model)}
    rule_of = assign_rules(config.rules, where, linear)
    named = dict(model.named_parameters())
    whole = {name: rule for name, rule in rule_of.items() if rule.kind == "full"}
    adapted = {name.removesuffix(".weight"): rule for name, rule in rule_of.items() if rule.kind == "lora"}
    chosen = [named[name] for name in whole]
    for name, rule in whole.items():
        # Layer-wise decay: each layer below the top has the rate of the one above times layer_decay.
        scale_rate(named[name], rule.lr * config.layer_decay ** _depth(where.layer(name), where.count))
    parts.train_only(model, chosen, dtypes)
    if not adapted:
        return model
    wrapped = attach(model, _lora(adapted, model), dtypes)
    for parameter in chosen:  # peft froze them
        parameter.requires_grad_(True)
    for name, module in wrapped.named_modules():
        found = adapted.get(get_plain_name(name))
        if found is not None:
            for parameter in module.parameters():
                if parameter.requires_grad:
                    layer = where.layer(get_plain_name(name))
                    scale_rate(parameter, found.lr * config.layer_decay ** _depth(layer, where.count))
    return wrapped


def _depth(layer: int | None, count: int) -> int:
    """Returns the number of layers above; modules outside the layers count as the top."""
    return 0 if layer is None else count - 1 - layer


def _lora(adapted: dict[str, LayerRule], model: PreTrainedModel) -> Any:
    from peft import LoraConfig

    first = next(iter(adapted.values()))
    # peft takes one rank for all layers and patterns for the others; ^ and $ make a pattern a full name.
    others = {name: rule for name, rule in adapted.items() if (rule.rank, rule.alpha) != (first.rank, first.alpha)}
    return LoraConfig(
        r=first.rank, lora_alpha=first.alpha, target_modules=sorted(adapted), task_type=task(model),
        rank_pattern={f"^{name}$": rule.rank for name, rule in others.items()},
        alpha_pattern={f"^{name}$": rule.alpha for name, rule in others.items()},
    )


def build_freeze_schedules(config: c.Method, model: nn.Module) -> list[Callable[[int], Iterable[nn.Parameter]]]:
    """Returns which trained parameters rest in each optimizer step (gradual unfreezing); an empty list without it."""
    every = getattr(config, "unfreeze_every", None)
    return [] if every is None else [partial(list_frozen_parameters, model, every)]


def list_frozen_parameters(model: nn.Module, every: int, step: int) -> Iterable[nn.Parameter]:
    """The parameters that gradual unfreezing still holds back at an optimizer step; a pure function of the step.

    Trained layers thaw from the top, one `every` so many steps; modules outside the layers thaw with the top one,
    and embeddings with the lowest.
    """
    base = unwrap_model(model)
    prefix, _ = parts.find_layers(base)
    embeddings = {id(p) for p in base.get_input_embeddings().parameters()}
    # What follows the prefix of the layers begins with the number of a layer.
    rows = [
        (name.partition(f"{prefix}.")[2].partition(".")[0], p)
        for name, p in model.named_parameters()
        if p.requires_grad
    ]
    depths = sorted({int(head) for head, _ in rows if head.isdigit()}, reverse=True)
    # From the top: the highest layers are first in `depths`.
    live = set(depths[: 1 + step // every])
    for head, parameter in rows:
        # Embeddings wait until every layer has thawed.
        low = id(parameter) in embeddings and len(live) < len(depths)
        if low or (head.isdigit() and int(head) not in live):
            yield parameter
