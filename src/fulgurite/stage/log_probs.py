"""Computes the loss of a model at label positions, and log-probabilities by token or by answer.

Logits are computed only for label positions, and for a chunk of them at a time if the head is one matrix product.
Shapes: B rows, S answers of a micro-batch (both sides of its pairs), T tokens, N label positions, D width, V
vocabulary.
"""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from fulgurite.data.documents import Documents
from fulgurite.data.unpadded import Unpadded
from fulgurite.loss import language, policy
from fulgurite.loss.language import IGNORE
from fulgurite.model.document_attention import is_by_documents, know_rows
from fulgurite.model.probe import find_plain_head
from fulgurite.model.unwrap import unwrap_model
from fulgurite.stage import shared_prefix

Batch = dict[str, Any]


@dataclass(frozen=True, slots=True)
class LabelOutput:
    """One forward pass at N label positions: the states before a plain head, or the logits of any other head."""

    output: Any
    """transformers' output object."""
    states_ND: Tensor | None
    logits_NV: Tensor | None
    head: nn.Linear | None
    chunk: int
    unpadded: Unpadded | None = None
    """The tokens that the pass had, if it was without padding."""

    @property
    def last_states_BTD(self) -> Tensor:
        """The last hidden states of all positions; those of padding have no meaning."""
        found: Tensor = self.output.last_hidden_state if self.head is not None else self.output.hidden_states[-1]
        return found if self.unpadded is None else self.unpadded.restore(found)

    def compute_nll(self, targets_N: Tensor, *, dft: bool = False) -> Tensor:
        """Returns the summed negative log-likelihood of the targets in nats, a float32 scalar."""
        if self.head is None or self.states_ND is None:
            return language.nll_of_logits(self._logits(), targets_N, dft=dft)
        head = self.head
        return language.nll(self.states_ND, head.weight, targets_N, bias_V=head.bias, chunk=self.chunk, dft=dft)

    def compute_log_probs(self, targets_N: Tensor) -> Tensor:
        """Returns the log-probability of each target in nats, float32 [N]."""
        if self.head is None or self.states_ND is None:
            return language.log_probs_of_logits(self._logits(), targets_N)
        return language.log_probs(self.states_ND, self.head.weight, targets_N, bias_V=self.head.bias, chunk=self.chunk)

    def compute_log_probs_and_entropy(self, targets_N: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """Returns the same for logits divided by `temperature`, and the entropy at each position without a gradient;
        float32 [N]."""
        if self.head is None or self.states_ND is None:
            return policy.log_probs_of_logits(self._logits(), targets_N, temperature=temperature)
        return policy.log_probs(
            self.states_ND,
            self.head.weight,
            targets_N,
            bias_V=self.head.bias,
            temperature=temperature,
            chunk=self.chunk,
        )

    def _logits(self) -> Tensor:
        assert self.logits_NV is not None
        return self.logits_NV


def _select(values: Tensor, labels: Tensor) -> Tensor:
    """Returns `values` [B, T, ...] at labels. Positions are known; how many labels a mask has, the device is asked."""
    return values[labels] if labels.dtype == torch.bool else values.flatten(0, 1).index_select(0, labels)


def find_labels(batch: Batch) -> Tensor:
    """Returns the places of the targets among all B·T tokens, [N]. Without `label_positions`, which is made on the CPU,
    the device has to be waited for."""
    found: Tensor | None = batch.get("label_positions")
    return (batch["targets"] != IGNORE).flatten().nonzero()[:, 0] if found is None else found


class LabelHead:
    """Runs a causal model whose method is applied. It is not an nn.Module, so that a stage does not train or save a
    second model."""

    def __init__(self, model: PreTrainedModel, chunk: int) -> None:
        self.causal: Any = unwrap_model(model)
        self.head, self.chunk = find_plain_head(self.causal), chunk
        self.by_documents = is_by_documents(self.causal)

    def run(
        self, labels: Tensor, *, states: bool = False, documents: Documents | None = None,
        unpadded: Unpadded | None = None, **inputs: Any,
    ) -> LabelOutput:
        """Returns the pass over `inputs` at `labels`: bool [B, T], or positions among all B·T tokens [N]. `states`: all
        last hidden states are needed too. `documents` are those of packed rows. With `unpadded` the pass is over those
        tokens alone, if the model attends by documents."""
        if not self.by_documents:
            unpadded = None
        if unpadded is not None:
            # From [B, T] to one row of the tokens that are not padding: labels, documents and positions follow.
            labels, documents = unpadded.place(labels), unpadded.documents
            inputs |= {"input_ids": unpadded.take(inputs["input_ids"]), "position_ids": unpadded.positions_1N}
        with self._know_rows(documents, inputs.get("position_ids")):
            # A head of several operations makes its own logits: only a plain matrix can be applied outside.
            if self.head is None:
                out = self.causal(**inputs, **({"output_hidden_states": True} if states else {}))
                return LabelOutput(out, None, _select(out.logits, labels), None, self.chunk, unpadded)
            # The decoder alone: the head follows at the label positions, a chunk of them at a time.
            out = self.causal.get_decoder()(**inputs)
        return LabelOutput(out, _select(out.last_hidden_state, labels), None, self.head, self.chunk, unpadded)

    def _know_rows(self, documents: Documents | None, positions_BT: Tensor | None) -> AbstractContextManager[Any]:
        """Returns the context of a pass. Packed rows of a model that keeps its mask are left to transformers."""
        if positions_BT is not None and (documents is None or not self.by_documents):
            return contextlib.nullcontext()
        return know_rows(None if positions_BT is None else documents)

    def compute_logits(self, labels_BT: Tensor, **inputs: Any) -> Tensor:
        """Returns the logits [N, V] without chunks, with a trained head called as a layer, so that hooks on it see each
        example."""
        if self.head is None or any(p.requires_grad for p in self.head.parameters()):
            whole: Tensor = self.causal(**inputs).logits[labels_BT]
            return whole
        found: Tensor = self.head(self.causal.get_decoder()(**inputs).last_hidden_state[labels_BT])
        return found


class Scorer(Protocol):
    """Log-probabilities of a batch's targets under one model."""

    model: Any

    def __call__(self, batch: Batch) -> Tensor:
        """Returns the log-probabilities in nats, float32."""

    def replace_model(self, model: PreTrainedModel) -> Scorer:
        """Returns a scorer of the same kind for another model."""


class TokenScorer:
    """Log-probabilities by token, of logits divided by the sampling temperature."""

    def __init__(self, model: PreTrainedModel, temperature: float, chunk: int) -> None:
        self.model, self.temperature = model, temperature
        self._head = LabelHead(model, chunk)

    @property
    def width(self) -> int:
        """The width of the last hidden states."""
        return int(self._head.causal.config.get_text_config().hidden_size)

    def __call__(self, batch: Batch) -> Tensor:
        """Returns the log-probabilities [B, T] of the targets, 0 elsewhere."""
        return self.score(batch)[0]

    def score(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the log-probabilities [B, T] of the targets, the entropies [B, T] there, and the last hidden states
        [B, T, D]."""
        targets_BT, labels_N = batch["targets"], find_labels(batch)
        out = self._head.run(
            labels_N, states=True, unpadded=batch.get("unpadded"), input_ids=batch["input_ids"], use_cache=False,
        )
        targets_N = targets_BT.flatten()[labels_N]
        logp_N, entropy_N = out.compute_log_probs_and_entropy(targets_N, self.temperature)
        # Back to [B, T], in which the objectives have masks; index_copy has a gradient.
        zeros = torch.zeros(targets_BT.numel(), dtype=torch.float32, device=targets_BT.device)
        return (
            zeros.index_copy(0, labels_N, logp_N).view_as(targets_BT),
            zeros.index_copy(0, labels_N, entropy_N).view_as(targets_BT),
            out.last_states_BTD,
        )

    def replace_model(self, model: PreTrainedModel) -> TokenScorer:
        """Returns a scorer with the same temperature for another model."""
        return TokenScorer(model, self.temperature, self._head.chunk)


class AnswerScorer:
    """Log-probabilities by answer: the sum over its tokens. A prompt that both sides of a pair share may be computed
    once."""

    def __init__(self, model: PreTrainedModel, chunk: int) -> None:
        self.model = model
        self._head = LabelHead(model, chunk)
        self.causal = self._head.causal
        self.shares = shared_prefix.is_possible(self.causal)

    def __call__(self, batch: Batch) -> Tensor:
        """Returns the log-probability [S] of each answer."""
        ids_ST, targets_ST = batch["input_ids"], batch["targets"]
        inputs: dict[str, Any] = {"input_ids": ids_ST, "unpadded": batch.get("unpadded"), "use_cache": False}
        sides, longest = ids_ST.shape
        labels_N = find_labels(batch)
        # A flat position is row · T + column.
        rows_N, targets_N = labels_N // max(longest, 1), targets_ST.flatten()[labels_N]
        if self.shares and shared_prefix.is_worth_it(sides, longest, once := batch["shared"]):
            # The chosen sides come first, so the first half of the rows has every prompt once.
            cache = shared_prefix.build_cache(self.causal, ids_ST[: sides // 2, :once])
            inputs = {"input_ids": ids_ST[:, once:], "past_key_values": cache, "use_cache": True}
            labels_N = labels_N - (rows_N + 1) * once  # each row lost its first tokens, and so did those before it
        logp_N = self._head.run(labels_N, **inputs).compute_log_probs(targets_N)
        return language.sum_by_row(logp_N, rows_N, sides)

    def replace_model(self, model: PreTrainedModel) -> AnswerScorer:
        """Returns a scorer with the same chunk for another model."""
        return AnswerScorer(model, self._head.chunk)
