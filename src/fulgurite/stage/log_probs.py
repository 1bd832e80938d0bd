"""The policy's own model, asked for the log-probabilities of tokens, and the reference: what the policy was at its start.

Shapes: B answers, T tokens, N label positions, D width.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from fulgurite.loss.language import IGNORE
from fulgurite.loss.policy import log_probs, log_probs_of_logits
from fulgurite.model.probe import plain_head
from fulgurite.model.unwrap import inner


class Scorer:
    """Answers `scores(batch)` by a model whose method is applied; logits are made only where there are targets."""

    def __init__(self, model: PreTrainedModel, temperature: float, chunk: int) -> None:
        self.model, self.temperature, self.chunk = model, temperature, chunk
        self._causal: Any = inner(model)
        self._head = plain_head(self._causal)

    @property
    def width(self) -> int:
        """The width of the last states."""
        return int(self._causal.config.get_text_config().hidden_size)

    def scores(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities [B, T] of the targets, entropies [B, T] of the choices (both 0 elsewhere), last states [B, T, D]."""
        targets_BT = batch["targets"]
        chosen_BT = targets_BT != IGNORE
        ids, targets_N = batch["input_ids"], targets_BT[chosen_BT]
        if self._head is None:
            out = self._causal(input_ids=ids, use_cache=False, output_hidden_states=True)
            hidden_BTD = out.hidden_states[-1]
            found, entropy = log_probs_of_logits(out.logits[chosen_BT], targets_N, temperature=self.temperature)
        else:
            hidden_BTD = self._causal.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
            found, entropy = log_probs(
                hidden_BTD[chosen_BT], self._head.weight, targets_N, bias_V=self._head.bias, temperature=self.temperature, chunk=self.chunk,
            )
        where = torch.zeros(targets_BT.shape, dtype=torch.float32, device=ids.device)
        return where.masked_scatter(chosen_BT, found), where.masked_scatter(chosen_BT, entropy), hidden_BTD


def reference(policy: Scorer) -> Callable[[dict[str, Any]], Tensor]:
    """The log-probabilities [B, T] of the model as it is now, whatever training makes of it.

    An adapter that changes nothing yet is switched off, which costs no memory; any other model is copied and kept beside.
    """
    model: Any = policy.model
    if hasattr(model, "disable_adapter") and _changes_nothing(model):

        @torch.no_grad()
        def without_adapter(batch: dict[str, Any]) -> Tensor:
            with model.disable_adapter():
                return policy.scores(batch)[0]

        return without_adapter
    frozen = copy.deepcopy(model).eval().requires_grad_(False)
    kept = Scorer(frozen, policy.temperature, policy.chunk)

    @torch.no_grad()
    def of_the_copy(batch: dict[str, Any]) -> Tensor:
        frozen.to(batch["input_ids"].device)  # no part of the LightningModule, which would save and train it
        return kept.scores(batch)[0]

    return of_the_copy


@torch.no_grad()
def _changes_nothing(model: Any) -> bool:
    """Whether the adapter gives the base's own logits, asked of the model on four tokens."""
    device = next(model.parameters()).device
    tokens = torch.arange(1, 5, device=device)[None] % model.get_input_embeddings().num_embeddings
    kinds = {p.dtype for p in model.parameters()}
    was_training = model.training
    model.eval()
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=kinds != {torch.float32}):
            with model.disable_adapter():
                base = model(input_ids=tokens, use_cache=False).logits
            return bool(torch.equal(base, model(input_ids=tokens, use_cache=False).logits))
    finally:
        model.train(was_training)
