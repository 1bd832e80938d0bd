"""The checks of `plan` for a run whose processes start on other machines."""

from __future__ import annotations

from functools import cached_property

from fulgurite.config.schema import build
from fulgurite.data.source import Source
from fulgurite.plan.preflight import build_checked_source
from fulgurite.plan.prepare import preview_checkpoint
from fulgurite.plan.rules import find_troubles
from fulgurite.plan.verdict import list_warnings
from fulgurite.precision.policy import Dtypes
from fulgurite.text.console import say
from fulgurite.train.pieces import Pieces
from fulgurite.trainer.device import device

OF_MACHINE = ("memory.", "disk.", "device.")
"""Beginnings of the rules about the machine: the one of the command is not the one that trains."""


class RemotePieces(Pieces):
    """A run that trains elsewhere: this machine needs neither its GPU nor its memory."""

    @cached_property
    def source(self) -> Source:
        """The data, every record of them read once."""
        return build_checked_source(self.composed, is_here=False)

    @cached_property
    def dtypes(self) -> Dtypes:
        """The compute type that this machine would take."""
        run = self.composed.run
        found: Dtypes = build(run.precision, device(run.trainer))
        return found

    def check(self) -> None:
        """Prints the warnings of `plan`. Raises FulguriteError as training would, but for reasons of the machine."""
        run = self.composed.run
        if self.source and run.precision.compute == "float16" and device(run.trainer) == "cpu":
            return  # its rules need the GPU
        seen = preview_checkpoint(self.gathered).seen
        for line in list_warnings([t for t in find_troubles(seen) if not t.rule.startswith(OF_MACHINE)]):
            say(line)
