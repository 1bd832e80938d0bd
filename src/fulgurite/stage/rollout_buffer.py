"""A rollout that is being learned from: its answers, what is known of each token, and how it is cut into steps.

Shapes: N answers of the rollout, B answers of a micro-batch, T tokens of the longest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fulgurite.stage.rollout import Drawn

IGNORE = -100


@dataclass(slots=True)
class Cuts:
    """How each rollout becomes `minibatches * epochs_per_rollout` optimizer steps of `micro_batches` micro-batches; a
    function of the seed."""

    answers: int
    minibatches: int
    epochs_per_rollout: int
    micro_batch: int
    seed: int

    @property
    def steps(self) -> int:
        """Optimizer steps a rollout."""
        return self.minibatches * self.epochs_per_rollout

    @property
    def micro_batches(self) -> int:
        """Micro-batches an optimizer step."""
        most = math.ceil(self.answers / self.minibatches)
        return math.ceil(most / self.micro_batch)

    def step(self, rollout: int, phase: int, lengths: Sequence[int]) -> list[list[int]]:
        """The micro-batches of a rollout's step `phase`, like lengths together; empty ones first where answers are
        short."""
        epoch, part = divmod(phase, self.minibatches)
        shuffled = np.random.default_rng([self.seed, rollout, epoch, 3]).permutation(self.answers)
        rows = sorted((int(n) for n in shuffled[part :: self.minibatches]), key=lambda n: (lengths[n], n))
        cuts = [rows[i : i + self.micro_batch] for i in range(0, len(rows), self.micro_batch)]
        return [[] for _ in range(self.micro_batches - len(cuts))] + cuts


@dataclass(slots=True)
class Buffer:
    """Answers right-padded behind their prompts: no attention mask is needed, for under causal attention padding at
    the end is seen by nothing. `targets_NT` is the next token where the policy chose it, else -100; `of_token` has a
    float per such position,
    `of_answer` one per answer. `record` are the rollout's numbers for metrics.jsonl."""

    number: int
    rows: list[int]
    lengths: list[int]
    ids_NT: Tensor
    targets_NT: Tensor
    of_token: dict[str, Tensor] = field(default_factory=dict)
    of_answer: dict[str, Tensor] = field(default_factory=dict)
    record: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls, number: int, rows: list[int], prompts: Sequence[Sequence[int]], drawn: Drawn, device: torch.device
    ) -> Buffer:
        """A rollout's buffer; `rows` tells which prompt each answer is to. `of_token` has `drawn`, the
        log-probabilities in sampling."""
        lengths = [len(p) + len(a) for p, a in zip(prompts, drawn.tokens, strict=True)]
        ids, targets, known = (
            torch.zeros(len(rows), max(lengths), dtype=torch.int64),
            None,
            torch.zeros(len(rows), max(lengths)),
        )
        targets = torch.full_like(ids, IGNORE)
        for i, (prompt, answer) in enumerate(zip(prompts, drawn.tokens, strict=True)):
            begin, end = len(prompt) - 1, len(prompt) - 1 + len(answer)
            ids[i, : lengths[i]] = torch.tensor([*prompt, *answer])
            targets[i, begin:end] = torch.tensor(answer)
            known[i, begin:end] = torch.tensor(drawn.log_probs[i])
        return cls(number, rows, lengths, ids.to(device), targets.to(device), {"drawn": known.to(device)})

    @property
    def mask_NT(self) -> Tensor:
        """1.0 where the policy chose the next token."""
        return (self.targets_NT != IGNORE).float()

    def build_micro_batch(self, answers: list[int]) -> dict[str, Any]:
        """The batch of some answers, cut to their longest."""
        longest = max((self.lengths[n] for n in answers), default=0)
        own = torch.tensor(answers, dtype=torch.int64, device=self.ids_NT.device)
        batch = {"input_ids": self.ids_NT[own, :longest], "targets": self.targets_NT[own, :longest], "own": own}
        batch |= {name: values[own, :longest] for name, values in self.of_token.items()}
        batch |= {name: values[own] for name, values in self.of_answer.items()}
        return batch | {"rows": [self.rows[n] for n in answers], "tokens": sum(self.lengths[n] for n in answers)}

    def get_state(self) -> dict[str, Any]:
        """Everything, as a checkpoint keeps it."""
        return {
            "number": self.number,
            "rows": self.rows,
            "lengths": self.lengths,
            "ids": self.ids_NT,
            "targets": self.targets_NT,
            "of_token": self.of_token,
            "of_answer": self.of_answer,
            "record": self.record,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any], device: torch.device) -> Buffer:
        """The buffer that `get_state` was taken of."""
        tokens = {name: values.to(device) for name, values in state["of_token"].items()}
        answers = {name: values.to(device) for name, values in state["of_answer"].items()}
        return cls(
            state["number"],
            state["rows"],
            state["lengths"],
            state["ids"].to(device),
            state["targets"].to(device),
            tokens,
            answers,
            state["record"],
        )
