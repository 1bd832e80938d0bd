"""The processes that write one checkpoint together: all of them go on, or all raise the error of one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fulgurite.errors import FulguriteError, TrainingFailed
from fulgurite.language.library_errors import quote_foreign
from fulgurite.language.message import message, read_message

if TYPE_CHECKING:
    from lightning.pytorch.strategies import Strategy


class Peers:
    """The processes of a run, which exchange short texts."""

    def __init__(self, strategy: Strategy) -> None:
        self.rank, self.size = int(strategy.global_rank), int(strategy.world_size)
        self._gather: Callable[[Tensor], Tensor] = strategy.all_gather
        self._device = strategy.root_device

    @property
    def is_first(self) -> bool:
        """Whether this is the first process."""
        return self.rank == 0

    def exchange(self, text: str) -> list[str]:
        """Returns the text of every process, in the order of their ranks. Gathers bytes: torch's gathering of objects
        would pickle."""
        own = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8) if text else torch.zeros(0).byte()
        sizes = self._gather(torch.tensor(len(own), device=self._device)).reshape(-1).tolist()
        # Gathered tensors must have one size, so the lengths are exchanged first.
        padded = torch.zeros(max([*sizes, 1]), dtype=torch.uint8, device=self._device)
        padded[: len(own)] = own.to(self._device)
        rows = self._gather(padded).reshape(self.size, -1).cpu()
        return [bytes(row[:size].tolist()).decode() for row, size in zip(rows, sizes, strict=True)]

    def attempt(self, work: Callable[[], Any]) -> list[Any]:
        """Returns what `work` returned in every process, plain values of JSON, in the order of their ranks.

        If it fails in one, it fails in all: the process itself raises its error, the others TrainingFailed with the
        same sentence. Every process must call it.
        """
        raised: Exception | None = None
        found: Any = None
        try:
            found = work()
        except Exception as error:  # whatever it is, the others would wait for this process
            raised = error
        own = {"value": found} if raised is None else {"error": _describe(raised, self.rank)}
        answers = [json.loads(text) for text in self.exchange(json.dumps(own))]
        # Only after the exchange: the others wait for the answer of this process.
        if raised is not None:
            raise raised
        failed = [answer["error"] for answer in answers if "error" in answer]
        if failed:
            raise TrainingFailed(read_message(failed[0]))
        return [answer["value"] for answer in answers]


def _describe(error: Exception, rank: int) -> dict[str, Any]:
    if isinstance(error, FulguriteError):
        return error.message.to_json()
    return message(
        "Process {rank} failed: {error}.", rank=rank, error=quote_foreign(f"{type(error).__name__}: {error}", 300)
    ).to_json()
