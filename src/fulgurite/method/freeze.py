"""Freeze: some layers are trained whole, the rest stays as it was."""

from __future__ import annotations

from transformers import PreTrainedModel

from fulgurite.method import config as c
from fulgurite.method import modules as parts
from fulgurite.method import selectors as places
from fulgurite.precision.policy import Dtypes


def build(config: c.Freeze, model: PreTrainedModel, dtypes: Dtypes) -> PreTrainedModel:
    """The model in which only `train` and `also` learn. Raises ConfigError where one of them matches nothing."""
    where = parts.collect_names(model)
    named = dict(model.named_parameters())
    chosen = [named[name] for name in places.match_names(config.trainable, where.all, where, "method.trainable")]
    for part in config.extra_trainable:
        chosen += parts.find_part(model, c.Part(part))
    parts.train_only(model, chosen, dtypes)
    return model
