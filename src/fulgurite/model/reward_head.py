"""A causal model's backbone under one number an answer, in transformers' sequence-classification form.

Shapes: S answers, T tokens, D width.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from fulgurite.errors import ModelError
from fulgurite.model.classifier import HEAD
from fulgurite.model.probe import NEAR, NEAR_ROUNDED, is_rounded, ordinary_tokens, probe_context
from fulgurite.model.unwrap import unwrap_model


def add_reward_head(causal: PreTrainedModel) -> PreTrainedModel:
    """The causal model's backbone under a head of zeros: every answer is worth 0 at first, and the loss is ln 2
    exactly.

    transformers would draw the head at random, so that a head that was lost goes unnoticed. A reward model is
    returned as it is, with its own head. Raises ModelError for an architecture without that form.
    """
    if isinstance(getattr(causal, HEAD, None), nn.Linear) and causal.config.num_labels == 1:
        return causal
    config = copy.deepcopy(causal.config)
    config.num_labels = 1
    prefix = causal.base_model_prefix
    try:
        with torch.device("meta"):
            made: PreTrainedModel = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
    except ValueError as error:
        raise ModelError(
            f"{type(causal).__name__} has no sequence-classification form in transformers; take another model."
        ) from error
    if not isinstance(getattr(made, HEAD, None), nn.Linear) or not hasattr(made, prefix):
        raise ModelError(f"{type(made).__name__} has no single linear head called {HEAD}; take another model.")
    backbone = getattr(causal, prefix)
    setattr(made, prefix, backbone)
    like = next(backbone.parameters())
    head = nn.Linear(getattr(made, HEAD).in_features, 1, bias=False, dtype=like.dtype, device=like.device)
    nn.init.zeros_(head.weight)
    setattr(made, HEAD, head)
    made.config.use_cache = False
    return made


@torch.no_grad()
def check_head(model: PreTrainedModel) -> None:
    """Raise ModelError unless `compute_rewards` are what the reward model's own forward returns: one linear head on
    the last hidden state."""
    name = type(model).__name__
    head: Any = getattr(model, HEAD, None)
    if (
        not isinstance(head, nn.Linear)
        or getattr(head, "bias", None) is not None
        or not hasattr(model, model.base_model_prefix)
    ):
        raise ModelError(f"{name} has no single linear head called {HEAD} without a bias; take another model.")
    ids_ST = torch.tensor([ordinary_tokens(model, CHECKED)])
    with probe_context(model):
        theirs = model(input_ids=ids_ST, use_cache=False).logits.flatten().float()
        ours = compute_rewards(model, ids_ST, torch.tensor([CHECKED]))
    most = (NEAR_ROUNDED if is_rounded(model) else NEAR) * max(float(theirs.abs().max()), 1e-6)
    if theirs.shape != ours.shape or not bool((theirs - ours).abs().max() <= most):
        raise ModelError(
            f"{name} does more than one linear head on the last hidden state, which stage=rm does not train; take "
            f"another model."
        )


CHECKED = 8
"""Tokens on which the head of a reward model is checked."""


def get_head(model: Any) -> nn.Linear:
    """The head of a reward model, also under an adapter. Raises ModelError where it has none."""
    head = getattr(unwrap_model(model), HEAD, None)
    if not isinstance(head, nn.Linear):
        raise ModelError(
            f"{type(unwrap_model(model)).__name__} is no reward model: it has no head called {HEAD}; train one with "
            f"stage=rm."
        )
    return head


def compute_rewards(model: Any, input_ids_ST: Tensor, lengths_S: Tensor, mask_ST: Tensor | None = None) -> Tensor:
    """The reward of each answer, read at its last token; float32 [S].

    Without a mask answers begin at the left and `lengths_S` counts their tokens. With one it says where tokens are,
    on whatever side padding lies. No token's value is looked at: padding may be the end token, which may also stand
    inside the prompt.
    """
    whole = unwrap_model(model)
    backbone = getattr(whole, whole.base_model_prefix)
    if mask_ST is None:
        last_S, more = lengths_S - 1, {}
    else:
        places_T = torch.arange(mask_ST.shape[1], device=mask_ST.device)
        last_S = (places_T * mask_ST).argmax(1)
        more = {"attention_mask": mask_ST, "position_ids": (mask_ST.cumsum(1) - 1).clamp(min=0)}
    hidden_STD = backbone(input_ids=input_ids_ST, use_cache=False, **more).last_hidden_state
    hidden_SD = hidden_STD[torch.arange(len(last_S), device=last_S.device), last_S]
    with torch.autocast(hidden_SD.device.type, enabled=False):
        found: Tensor = functional.linear(hidden_SD.float(), get_head(model).weight.float())[:, 0]
    return found
