"""Computes which parameters of a search matter, in a process of its own: `python -m ... study.db SECONDS`."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fulgurite.sweep.result import compute_importance
from fulgurite.sweep.storage import silence_optuna


def load_study(path: Path) -> Any:
    """Returns the study in a file that is only read: no table is made, and nothing is migrated."""
    import optuna

    silence_optuna()
    storage = optuna.storages.RDBStorage(
        f"sqlite:///file:{quote(str(path.resolve()))}?mode=ro&uri=true", skip_compatibility_check=True,
        skip_table_creation=True,
    )
    names = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=names[-1], storage=storage)


def main(words: list[str]) -> int:
    """Prints the shares as JSON; nothing if they cannot be computed in time."""
    path, seconds = Path(words[0]), float(words[1])
    signal.setitimer(signal.ITIMER_REAL, seconds)  # SIGALRM ends the process
    try:
        print(json.dumps(compute_importance(load_study(path))))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
