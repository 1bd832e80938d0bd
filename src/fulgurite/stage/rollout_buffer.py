"""The rollout that is trained on: its answers, numbers of each token, and its division into steps.

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

from fulgurite.data.sampler import Ints, StepSampler
from fulgurite.data.unpadded import find_unpadded
from fulgurite.stage.rollout import Drawn

IGNORE = -100


@dataclass(slots=True)
class Cuts:
    """Divides each rollout into `minibatches * epochs_per_rollout` optimizer steps of `micro_batches` micro-batches in
    each process, depending on the seed."""

    answers: int
    minibatches: int
    epochs_per_rollout: int
    micro_batch: int
    seed: int
    processes: int = 1

    @property
    def steps(self) -> int:
        """Optimizer steps per rollout."""
        return self.minibatches * self.epochs_per_rollout

    @property
    def micro_batches(self) -> int:
        """Micro-batches per optimizer step in each process."""
        # The largest of the parts: smaller ones get empty micro-batches, because all steps must have equally many.
        most = math.ceil(self.answers / self.minibatches)
        return math.ceil(most / (self.micro_batch * self.processes))

    def step(self, rollout: int, phase: int, lengths: Sequence[int]) -> list[list[int]]:
        """Returns the micro-batches of a rollout's step `phase` in all processes, similar lengths together; empty ones
        first if there are too few answers. They belong to the processes in turn."""
        epoch, part = divmod(phase, self.minibatches)
        shuffled = np.random.default_rng([self.seed, rollout, epoch, 3]).permutation(self.answers)
        # Similar lengths together have little padding; ties by number, so that all processes cut alike.
        rows = sorted((int(n) for n in shuffled[part :: self.minibatches]), key=lambda n: (lengths[n], n))
        cuts = [rows[i : i + self.micro_batch] for i in range(0, len(rows), self.micro_batch)]
        return [[] for _ in range(self.micro_batches * self.processes - len(cuts))] + cuts


class RolloutOrder(StepSampler):
    """Every micro-batch of a step names all prompts of its rollout, in every process. Each epoch's last rollout is
    filled up from its first prompts."""

    def __init__(self, rows: int, prompts: int, cuts: Cuts, seed: int, shuffle: bool) -> None:
        # StepSampler draws the prompts alone; lengths and micro-batches are those of the answers, which `cuts` divides.
        super().__init__(np.zeros(rows, dtype=np.int64), prompts, 1, 1, 0, seed, shuffle)
        self.cuts, self.rollouts_per_epoch = cuts, self.steps_per_epoch
        self.steps_per_epoch, self.micro_batches_per_step = self.rollouts_per_epoch * cuts.steps, cuts.micro_batches

    def list_rows(self, step: int) -> Ints:
        """Returns the prompts of the rollout of a step."""
        epoch, position = divmod(step // self.cuts.steps, self.rollouts_per_epoch)
        start = position * self.batch_size
        return self.permutation(epoch).take(range(start, start + self.batch_size), mode="wrap")

    def list_micro_batches(self, step: int) -> list[list[int]]:
        """Returns the rollout's prompts, once for each micro-batch."""
        return [[int(n) for n in self.list_rows(step)]] * self.micro_batches_per_step


@dataclass(slots=True)
class Buffer:
    """Answers after their prompts, padded on the right: causal attention needs no mask, because nothing attends to
    padding at the end. `targets_NT` is the next token if the policy chose it, else -100; `of_token` has a float per
    such position, `of_answer` one per answer. `record` has the rollout's numbers for metrics.jsonl."""

    number: int
    rows: list[int]
    lengths: list[int]
    ids_NT: Tensor
    targets_NT: Tensor
    of_token: dict[str, Tensor] = field(default_factory=dict)
    of_answer: dict[str, Tensor] = field(default_factory=dict)
    record: dict[str, float] = field(default_factory=dict)
    _host: tuple[Tensor, int, np.ndarray[Any, Any]] | None = field(default=None, init=False, repr=False)
    """The targets, their version, and their copy on the CPU."""

    @classmethod
    def of(
        cls, number: int, rows: list[int], prompts: Sequence[Sequence[int]], drawn: Drawn, device: torch.device
    ) -> Buffer:
        """Builds a rollout's buffer; `rows` has the prompt of each answer. `of_token` has `drawn`, the
        log-probabilities in sampling."""
        lengths = [len(p) + len(a) for p, a in zip(prompts, drawn.tokens, strict=True)]
        ids, targets, known = (
            torch.zeros(len(rows), max(lengths), dtype=torch.int64),
            None,
            torch.zeros(len(rows), max(lengths)),
        )
        targets = torch.full_like(ids, IGNORE)
        for i, (prompt, answer) in enumerate(zip(prompts, drawn.tokens, strict=True)):
            # Position t predicts token t + 1: the first token of the answer is the target of the prompt's last one.
            begin, end = len(prompt) - 1, len(prompt) - 1 + len(answer)
            ids[i, : lengths[i]] = torch.tensor([*prompt, *answer])
            targets[i, begin:end] = torch.tensor(answer)
            known[i, begin:end] = torch.tensor(drawn.log_probs[i])
        return cls(number, rows, lengths, ids.to(device), targets.to(device), {"drawn": known.to(device)})

    @property
    def mask_NT(self) -> Tensor:
        """1.0 if the policy chose the next token, else 0."""
        return (self.targets_NT != IGNORE).float()

    def _copy_targets(self) -> np.ndarray[Any, Any]:
        """Returns the targets on the CPU, copied once for each content: a copy waits for the device."""
        targets = self.targets_NT
        # torch counts the in-place changes of a tensor in `_version`.
        if self._host is None or self._host[0] is not targets or self._host[1] != targets._version:
            self._host = targets, targets._version, targets.cpu().numpy()
        return self._host[2]

    def count_tokens(self, answers: Sequence[int] | None = None) -> int:
        """Returns the number of tokens that the policy chose in some answers, or in all."""
        targets = self._copy_targets()
        return int(((targets if answers is None else targets[list(answers)]) != IGNORE).sum())

    def build_micro_batch(self, answers: list[int]) -> dict[str, Any]:
        """Builds the batch of some answers, cut to the longest of them."""
        lengths, device = [self.lengths[n] for n in answers], self.ids_NT.device
        longest = max(lengths, default=0)
        # From the CPU without waiting, as every batch of a loader is.
        own = torch.tensor(answers, dtype=torch.int64).to(device, non_blocking=True)
        # Positions among all B·T tokens of the cut batch, as `find_labels` returns them.
        labels = np.flatnonzero(self._copy_targets()[answers, :longest] != IGNORE)
        batch: dict[str, Any] = {"label_positions": torch.from_numpy(labels).to(device, non_blocking=True)}
        batch |= {"input_ids": self.ids_NT[own, :longest], "targets": self.targets_NT[own, :longest], "own": own}
        batch |= {name: values[own, :longest] for name, values in self.of_token.items()}
        batch |= {name: values[own] for name, values in self.of_answer.items()}
        if (unpadded := find_unpadded(lengths, longest)) is not None:
            batch["unpadded"] = unpadded.to(self.ids_NT.device)
        return batch | {"rows": [self.rows[n] for n in answers], "tokens": sum(lengths)}

    def get_state(self) -> dict[str, Any]:
        """Returns the whole buffer for a checkpoint."""
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
        """Builds the buffer from what `get_state` returned."""
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
