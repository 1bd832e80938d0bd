"""Full fine-tuning: every parameter is trained."""

from __future__ import annotations

from transformers import PreTrainedModel

from fulgurite.method import config as c
from fulgurite.precision.policy import Dtypes


def build(config: c.Full, model: PreTrainedModel, dtypes: Dtypes) -> PreTrainedModel:
    """The model with every parameter in the trained dtype, all of them trained."""
    model.to(dtype=dtypes.trained)
    model.requires_grad_(True)
    return model
