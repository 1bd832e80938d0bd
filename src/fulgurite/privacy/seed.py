"""The secret of a private run: the seed of its noise and of its draws. Whoever knows it can remove the noise."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from fulgurite.errors import CheckpointError, RequestError
from fulgurite.language.library_errors import translate_error
from fulgurite.privacy.config import DpSgd

FILE = "noise_seed"


def secret_of(config: DpSgd, folder: Path, resumed: bool) -> int:
    """Returns the configured seed, the seed stored in the run folder, or a new one of 128 bits, which it stores in a
    file that only its owner may read.

    Raises CheckpointError if a resumed run has no stored seed, and RequestError if the file cannot be read or written.
    """
    if config.noise_seed is not None:
        return config.noise_seed
    path = folder / FILE
    try:
        if path.exists():
            return int(path.read_text(encoding="ascii"), 16)
        if resumed:
            raise CheckpointError(
                "{path} is missing, and a private run cannot be resumed without it; restore the file, or start a new "
                "run.",
                path=path,
            )
        # O_EXCL: never overwrite a seed; 0o600: only the owner reads it.
        made = secrets.randbits(128)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as stream:
            stream.write(f"{made:032x}\n")
        return made
    except (OSError, ValueError) as error:
        raise RequestError(
            "{path} cannot be used as the secret seed of the noise ({error}); start a new run with another run_dir.",
            path=path, error=translate_error(error),
        ) from error
