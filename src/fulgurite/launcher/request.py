"""What a launcher is given: the words of the command, and how many processes the run has."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fulgurite.config.overrides import quote_verbatim
from fulgurite.run.folder import choose_run_folder
from fulgurite.strategy.ranks import Ranks

PLAIN = re.compile(r"/[\w./-]*")
"""A path that no quotes are needed for."""


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """A run whose processes are to be started."""

    words: tuple[str, ...]
    """The command line without `fulgurite` and without the run folder."""
    devices: int
    num_nodes: int
    name: str | None
    run_dir: str | None
    resumed: str | None
    ranks: Ranks = field(default_factory=Ranks)
    """The place of this command among those of several machines."""
    uses_gpu: bool = False
    """Whether the processes of a remote launcher ask for a GPU each."""
    needs_gpu: bool = False
    """Whether the run is refused without one (trainer.accelerator=cuda)."""
    check: Callable[[], None] = lambda: None
    """Raises FulguriteError if the run would be refused, as far as another machine can know."""

    @property
    def is_fresh(self) -> bool:
        """Whether the run has no folder yet."""
        return self.run_dir is None and self.resumed is None

    @property
    def world_size(self) -> int:
        """The number of processes."""
        return self.devices * self.num_nodes

    def choose_folder(self) -> Path:
        """Returns the run folder; a new one is made now."""
        return choose_run_folder(self.name, self.run_dir, self.resumed)

    def add_folder(self, folder: Path) -> list[str]:
        """Returns the words with the run folder."""
        text = str(folder)  # quoted only if it must be: a person reads the script of a job
        return [*self.words, f"run_dir={text if PLAIN.fullmatch(text) else quote_verbatim(text)}"]


def forget_folder(folder: Path) -> None:
    """Removes the folder of a run that never began, and those that were made for it."""
    with contextlib.suppress(OSError):  # one of them is not empty
        for place in (folder, folder.parent, folder.parent.parent):
            place.rmdir()
