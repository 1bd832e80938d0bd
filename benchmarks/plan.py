"""The time of `fulgurite plan model=tiny`: first in a new process, then again in the same one. `python -m
benchmarks.plan`.

Seconds of the processor, of the user and the system, which a busy machine changes less than those of the clock. The
data are
tokenised before the first measurement, as they are in every plan but the first of a data set.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from statistics import median

CODE = """
import contextlib, io, json, sys, time
from fulgurite.cli.main import main

def measure():
    wall, processor = time.perf_counter(), time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(["plan", *sys.argv[1:]]) == 0
    return time.perf_counter() - wall, time.process_time() - processor

print(json.dumps([measure(), measure(), measure()][::2]))
"""


def measure_plans(words: list[str]) -> list[list[float]]:
    """Returns (clock, processor) seconds of the first and of a later plan in one new process."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, *words], capture_output=True, text=True, check=True, env=os.environ,
    )
    found: list[list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", default=["model=tiny"], help="the words of the plan")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    measure_plans(given.words)
    runs = [measure_plans(given.words) for _ in range(given.repeats)]
    print("| plan | clock, s | processor, s |\n|---|---|---|")
    for number, name in enumerate(("first", "later, in the same process")):
        clock, processor = (median(run[number][kind] for run in runs) for kind in (0, 1))
        print(f"| {name} | {clock:.2f} | {processor:.2f} |")


if __name__ == "__main__":
    main()
