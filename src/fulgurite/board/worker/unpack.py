"""Unpacks the bundled model into the cache: `python -m fulgurite.board.worker.unpack`, at a low priority."""

from __future__ import annotations

import os
import sys

from fulgurite.board.worker.main import NICENESS
from fulgurite.errors import FulguriteError


def main() -> int:
    """Returns 0 if the model is there, 3 if it cannot be unpacked: the next plan then shows the reason."""
    os.nice(NICENESS)
    from fulgurite.model.smollm2 import here

    try:
        here(weights=False)
    except FulguriteError as error:
        print(error, file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
