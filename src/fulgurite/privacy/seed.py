"""A run's secret: the seed of its noise and of its draws. Known, it undoes the noise."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from fulgurite.errors import CheckpointError, RequestError
from fulgurite.privacy.config import DpSgd

FILE = "noise_seed"


def secret_of(config: DpSgd, folder: Path, resumed: bool) -> int:
    """The given seed, or the run folder's, or a new one of 128 bits in a file that its owner alone may read.

    Raises CheckpointError where a resumed run's is gone, and RequestError where the file cannot be read or made.
    """
    if config.noise_seed is not None:
        return config.noise_seed
    path = folder / FILE
    try:
        if path.exists():
            return int(path.read_text(encoding="ascii"), 16)
        if resumed:
            raise CheckpointError(
                f"{path} is gone, without which the run cannot go on as it began; restore it, or start afresh."
            )
        made = secrets.randbits(128)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as stream:
            stream.write(f"{made:032x}\n")
        return made
    except (OSError, ValueError) as error:
        raise RequestError(
            f"{path} cannot be used as the secret of the noise ({error}); start afresh in another run_dir."
        ) from error
