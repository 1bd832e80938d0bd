"""Generates answers of the policy, with the log-probability of each token in sampling.

Answers depend on the seed, the rollout's number and the position in it: the run's own random state is not changed, so
that a resumed run generates the same answers. Shapes: B prompts at a time, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from fulgurite.model.generate import build_sampling_config, keep_state, silence


@dataclass(slots=True)
class Drawn:
    """For each prompt the answer's tokens (with the stop token), their log-probabilities, and whether it ended by
    itself."""

    tokens: list[list[int]] = field(default_factory=list)
    log_probs: list[list[float]] = field(default_factory=list)
    stopped: list[bool] = field(default_factory=list)


class Rollouts(Protocol):
    """An engine that generates answers: transformers here, vLLM in vllm_rollout.py."""

    def generate(self, prompts: Sequence[Sequence[int]], seed: Sequence[int], first: int = 0) -> Drawn:
        """Generates an answer to each prompt of token ids; the same for the same weights, prompts and seed.

        `first` is the position of the first prompt in its rollout, of which other processes may answer the rest.
        """

    def close(self) -> None:
        """Frees what is kept between two rollouts."""


class TransformersRollouts:
    """transformers' generate with its KV cache, prompts padded on the left, `batch` at a time; no top-p, no top-k."""

    def __init__(
        self, model: Any, stop_ids: Sequence[int], pad: int, *, max_new_tokens: int, temperature: float, batch: int,
        context: Any,
    ) -> None:
        self._model, self._stops, self._pad, self._batch = model, list(stop_ids), pad, batch
        self._temperature, self._context = temperature, context
        self._config = build_sampling_config(self._stops, pad, max_new_tokens, temperature, 1.0)

    def generate(self, prompts: Sequence[Sequence[int]], seed: Sequence[int], first: int = 0) -> Drawn:
        """Generates answers in portions; `seed` and the position of a portion in the rollout make its seed."""
        drawn = Drawn()
        for start in range(0, len(prompts), self._batch):
            # By the position in the rollout, so that an answer does not depend on which process draws it. Shifted,
            # because torch takes signed numbers.
            number = np.random.SeedSequence([*seed, first + start]).generate_state(1, np.uint64)[0]
            self._portion(prompts[start : start + self._batch], int(number) >> 1, drawn)
        return drawn

    def close(self) -> None:
        """Does nothing."""

    def _portion(self, prompts: Sequence[Sequence[int]], seed: int, drawn: Drawn) -> None:
        device = next(self._model.parameters()).device
        longest = max(len(ids) for ids in prompts)
        ids_BT = torch.tensor([[self._pad] * (longest - len(ids)) + list(ids) for ids in prompts], device=device)
        mask_BT = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts], device=device)
        # Prompts end at one column, padded on the left, so that the answers begin at one.
        heard = _Listener(self._temperature)
        context: AbstractContextManager[Any] = self._context()
        with keep_state(self._model, seed), context, silence():
            out_BT = self._model.generate(
                input_ids=ids_BT, attention_mask=mask_BT, generation_config=self._config, use_cache=True,
                logits_processor=LogitsProcessorList([heard]),
            )
        made = out_BT[:, longest:]
        log_probs = heard.finish(out_BT).tolist()
        for row, numbers in zip(made.tolist(), log_probs, strict=True):
            # transformers pads an answer that has ended until all have: only what is before its stop token counts.
            end = next((i + 1 for i, token in enumerate(row) if token in self._stops), None)
            drawn.tokens.append(row[:end])
            drawn.log_probs.append(numbers[: len(row[:end])])
            drawn.stopped.append(end is not None)


class _Listener(LogitsProcessor):  # type: ignore[misc]
    """Records each chosen token's log-probability. transformers calls it before its own temperature, so ours is applied
    here.

    generate's `output_logits` would keep B × V numbers for every token of the answers.
    """

    def __init__(self, temperature: float) -> None:
        self._temperature = temperature
        self._last: tuple[Tensor, Tensor] | None = None
        self._chosen: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        # The token that was chosen from the previous scores is known only now.
        self._take(input_ids[:, -1])
        scaled_BV = scores.float() if self._temperature == 1 else scores.float() / self._temperature
        self._last = scaled_BV, scaled_BV.logsumexp(-1)  # log_softmax would write B × V more numbers
        return scores

    def finish(self, whole_BT: Tensor) -> Tensor:
        """Returns the log-probabilities [B, new tokens], once the last token is known."""
        self._take(whole_BT[:, -1])
        self._last = None
        return torch.stack(self._chosen, dim=1)

    def _take(self, tokens_B: Tensor) -> None:
        if self._last is not None:
            scaled_BV, norm_B = self._last
            self._chosen.append(scaled_BV.gather(1, tokens_B[:, None])[:, 0] - norm_B)
