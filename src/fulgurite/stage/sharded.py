"""What a stage does if its parameters are distributed over processes: every process must make the same passes.

A layer is gathered by all processes together, so that a process without examples, or one that alone found a bad loss,
would leave the others waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from fulgurite.method.modules import get_decoder_layers
from fulgurite.stage.trainer_hooks import TrainerHooks

if TYPE_CHECKING:
    from fulgurite.strategy.sharding import Sharder

FORWARDS = ("training_step", "validation_step", "run_gathered")
"""The methods of a stage that compute with the model."""
Result = TypeVar("Result")


class ShardableStage(TrainerHooks):
    """A stage that can be sharded; alone, or with whole copies (ddp), it computes as if this class were not there."""

    model: Any
    is_sharded = False
    """Whether each process holds a part of every parameter."""
    is_idle = False
    """Whether the current pass is over a filler."""
    _metric_sums: dict[str, Tensor]

    def shard(self, sharder: Sharder) -> None:
        """Distributes the parameters: each decoder layer is gathered for itself, the rest for the whole step.

        A step is a forward pass of the stage, not of the model: the loss reads the head's weight outside of the model's
        forward, so that logits are computed only for labels, in chunks.
        """
        sharder.shard(self, get_decoder_layers(self.model), FORWARDS)
        self.is_sharded = True

    def run_gathered(self, function: Callable[[], Result]) -> Result:
        """Returns what `function` returns, which may use the model. If the stage is sharded, all processes must call
        it."""
        return function()

    def free_gathered(self) -> None:
        """Frees what passes without gradients have gathered."""
        if self.is_sharded:
            from fulgurite.strategy.sharding import reshard  # loads torch's FSDP

            reshard(self)

    def all_reduce(self, value: Tensor) -> Tensor:
        """Returns the sum of `value` over all processes; outside of a fit there is one."""
        if self._trainer is not None and self.trainer.world_size > 1:
            torch.distributed.all_reduce(value)
        return value

    def compute_idle(self, batch: dict[str, Any], compute: Callable[[dict[str, Any]], Tensor]) -> Tensor:
        """Returns 0 with a gradient of 0 for every trained parameter that `compute` uses, by a pass over a filler."""
        # A filler is no example: what it adds to the metrics is undone.
        kept, self.is_idle = dict(self._metric_sums), True
        try:
            return compute(batch) * 0.0
        finally:
            self._metric_sums, self.is_idle = kept, False

    def sum_nothing(self) -> Tensor:
        """Returns a zero that depends on every trained parameter: a process without examples joins the reduction."""
        # A single number of a parameter makes autograd give the whole parameter a gradient of 0.
        touched = [p.view(-1)[0] * 0.0 for p in self.parameters() if p.requires_grad]
        return torch.stack([t.float() for t in touched]).sum()

    def is_finite_everywhere(self, value: Tensor) -> bool:
        """Returns whether `value` is finite; if the stage is sharded, in all processes, so that all stop together."""
        found = torch.isfinite(value).all()
        if not self.is_sharded:
            return bool(found)
        # The number of processes with a fault; it must be 0.
        return not float(self.all_reduce((~found).float().to(self.device)))

    def gather_rows(self, rows: list[int], is_bad: bool) -> list[int]:
        """Returns the numbers of the examples that a sentence names: those of the processes for which `is_bad`."""
        if not self.is_sharded or self.trainer.world_size == 1:
            return rows
        mine = rows if is_bad else []
        counts = self.all_gather(torch.tensor(len(mine), device=self.device)).tolist()
        # Gathered tensors must have one size: they are filled up with -1, which is no example.
        padded = torch.full((max([*counts, 1]),), -1, device=self.device)
        padded[: len(mine)] = torch.tensor(mine, dtype=padded.dtype, device=self.device)
        return [number for row in self.all_gather(padded).tolist() for number in row if number >= 0]


def iterate_ahead(
    batch: dict[str, Any], compute: Callable[[dict[str, Any]], Result]
) -> Iterator[tuple[dict[str, Any], Result]]:
    """Yields each part of a whole step's data with what `compute` returns for it; a filler is computed and left out."""
    for part in batch["ahead"]:
        found = compute(part)
        if "filler" not in part:
            yield part, found
