"""Reward models: the backbone of a causal model with a head of one number, in transformers' sequence-classification
form.

Shapes: S answers, T tokens, D width.
"""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from fulgurite.data.unpadded import Unpadded
from fulgurite.errors import ModelError
from fulgurite.model.classifier import HEAD
from fulgurite.model.document_attention import is_by_documents, know_rows
from fulgurite.model.probe import NEAR, NEAR_ROUNDED, is_rounded, list_ordinary_tokens, probe_context
from fulgurite.model.unwrap import unwrap_model


def add_reward_head(causal: PreTrainedModel) -> PreTrainedModel:
    """Puts a head of zeros on the causal model's backbone: every answer has a reward of 0 at first, and the loss is
    exactly ln 2.

    transformers would draw the head at random, so that a lost head would not be noticed. A reward model is returned
    as it is, with its own head. Raises ModelError for an architecture without that form.
    """
    if isinstance(getattr(causal, HEAD, None), nn.Linear) and causal.config.num_labels == 1:
        return causal
    config = copy.deepcopy(causal.config)
    config.num_labels = 1
    prefix = causal.base_model_prefix
    try:
        # Only the form is needed: the backbone is replaced by the loaded one, and the head by zeros.
        with torch.device("meta"):
            made: PreTrainedModel = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
    except ValueError as error:
        raise ModelError(
            "{name} has no sequence-classification form in transformers; use another model.",
            name=type(causal).__name__,
        ) from error
    if not isinstance(getattr(made, HEAD, None), nn.Linear) or not hasattr(made, prefix):
        raise ModelError(
            "{name} has no single linear head called {head}; use another model.", name=type(made).__name__, head=HEAD,
        )
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
    """Raises ModelError unless `compute_rewards` equals the reward model's own forward: one linear head on the last
    hidden state."""
    name = type(model).__name__
    head: Any = getattr(model, HEAD, None)
    if (
        not isinstance(head, nn.Linear)
        or getattr(head, "bias", None) is not None
        or not hasattr(model, model.base_model_prefix)
    ):
        raise ModelError(
            "{name} has no single linear head called {head} without a bias; use another model.", name=name, head=HEAD,
        )
    ids_ST = torch.tensor([list_ordinary_tokens(model, CHECKED)])
    with probe_context(model):
        theirs = model(input_ids=ids_ST, use_cache=False).logits.flatten().float()
        ours = compute_rewards(model, ids_ST, torch.tensor([CHECKED]))
    most = (NEAR_ROUNDED if is_rounded(model) else NEAR) * max(float(theirs.abs().max()), 1e-6)
    if theirs.shape != ours.shape or not bool((theirs - ours).abs().max() <= most):
        raise ModelError(
            "{name} computes more than one linear head on the last hidden state, which stage=rm cannot train; use "
            "another model.",
            name=name,
        )


CHECKED = 8
"""Number of tokens on which the head of a reward model is checked."""


def get_head(model: Any) -> nn.Linear:
    """Returns the head of a reward model, also with an adapter. Raises ModelError if it has none."""
    head = getattr(unwrap_model(model), HEAD, None)
    if not isinstance(head, nn.Linear):
        raise ModelError(
            "{name} is not a reward model: it has no head called {head}; train one with stage=rm.",
            name=type(unwrap_model(model)).__name__, head=HEAD,
        )
    return head


def compute_rewards(
    model: Any, input_ids_ST: Tensor, lengths_S: Tensor, mask_ST: Tensor | None = None,
    unpadded: Unpadded | None = None,
) -> Tensor:
    """Returns the reward of each answer at its last token; float32 [S].

    Without a mask, answers begin at the left and `lengths_S` is their number of tokens. With a mask, padding may be on
    either side. Token values do not matter: padding may be the end token, which may also occur in the prompt. With
    `unpadded` the pass is over those tokens alone, if the model attends by documents.
    """
    whole = unwrap_model(model)
    backbone = getattr(whole, whole.base_model_prefix)
    if unpadded is not None and is_by_documents(whole):
        with know_rows(unpadded.documents):
            hidden_1ND = backbone(
                input_ids=unpadded.take(input_ids_ST), position_ids=unpadded.positions_1N, use_cache=False
            ).last_hidden_state
        # bounds is [0, end of the first, end of the second, ...]: the last token of a document is one before its end.
        return _apply_head(model, hidden_1ND[0].index_select(0, unpadded.documents.bounds[1:] - 1))
    if mask_ST is None:
        last_S, more = lengths_S - 1, {}
    else:
        places_T = torch.arange(mask_ST.shape[1], device=mask_ST.device)
        # The largest position that the mask keeps, which also holds for padding on the left.
        last_S = (places_T * mask_ST).argmax(1)
        more = {"attention_mask": mask_ST, "position_ids": (mask_ST.cumsum(1) - 1).clamp(min=0)}
    # Each row is one document: transformers would ask the device whether it is.
    with know_rows(None) if mask_ST is None else contextlib.nullcontext():
        hidden_STD = backbone(input_ids=input_ids_ST, use_cache=False, **more).last_hidden_state
    return _apply_head(model, hidden_STD[torch.arange(len(last_S), device=last_S.device), last_S])


def _apply_head(model: Any, hidden_SD: Tensor) -> Tensor:
    """Returns the reward [S] of the last state of each answer, in float32."""
    with torch.autocast(hidden_SD.device.type, enabled=False):
        found: Tensor = functional.linear(hidden_SD.float(), get_head(model).weight.float())[:, 0]
    return found
