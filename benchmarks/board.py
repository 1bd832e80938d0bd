"""The board, as one table: its start, the latency of plans, memory, long lists, and what a page costs a run.

`python -m benchmarks.board` takes some half an hour on a quiet machine; --parts leaves some of it out. Rows that need
Chromium are left out without one.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.board_plans import Measurement, measure_plans
from benchmarks.board_server import measure_answers, measure_slowdown, measure_start, open_browser, write_runs

PARTS = ("start", "plans", "answers", "speed")


def measure(given: argparse.Namespace) -> Iterator[Measurement]:
    """Yields the rows of the table, each as soon as it is known."""
    with tempfile.TemporaryDirectory() as scratch, open_browser() as browser:
        folder = Path(scratch).resolve()
        if browser is None:
            print("There is no Chromium: start and speed are left out.", file=sys.stderr)
        if "start" in given.parts and browser is not None:
            yield from measure_start(browser, folder, given.repeats)
        if "plans" in given.parts:
            for model in given.models:
                yield from measure_plans(folder, model, given.repeats)
        if "answers" in given.parts:
            write_runs(folder, given.runs, given.rows)
            yield from measure_answers(folder, given.runs, given.rows, given.models[-1])
        if "speed" in given.parts and browser is not None:
            for model in given.models:
                yield from measure_slowdown(browser, folder, model, given.seconds, given.pairs)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["tiny", "smollm2_135m"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--runs", type=int, default=501)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=45, help="of each run whose speed is measured")
    parser.add_argument("--pairs", type=int, default=5, help="runs with a page, and as many without")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    print("| measurement | median | processor, s |\n|---|---|---|")
    for row in measure(parser.parse_args()):
        print(row, flush=True)


if __name__ == "__main__":
    main()
