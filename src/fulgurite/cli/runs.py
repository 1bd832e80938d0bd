"""`fulgurite runs`: the runs under a folder as a table, or as JSON for programs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from fulgurite.cli.parser import parse
from fulgurite.errors import RequestError
from fulgurite.run.listing import format_runs, list_runs
from fulgurite.text.console import show


def runs_main(words: Sequence[str]) -> int:
    """Prints the runs; returns 0. Raises ConfigError or RequestError."""
    given = parse("runs", words)
    if len(given.words) > 1:
        raise RequestError(f"fulgurite runs takes one folder, not {len(given.words)}: {' '.join(given.words)}.")
    if not given.words and not Path("runs").is_dir():
        print("[]" if given.json else "No runs here yet: fulgurite train makes the first, in the folder runs.")
        return 0
    runs = list_runs(given.words[0] if given.words else "runs")
    if given.json:
        print(json.dumps([dataclasses.asdict(run) for run in runs], indent=1, default=str))
    else:
        show(format_runs(runs))
    return 0
