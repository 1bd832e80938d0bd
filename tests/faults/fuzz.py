"""The fuzzer: `python -m tests.faults.fuzz --count 3000 --seed 0` mutates valid files and tries what a stranger would.

Each mutation must end in examples, bad records or a FulguriteError whose text is short, in seconds, and without the
death of the
process. Mutations run in child processes, so that a crash inside a library (SIGSEGV) is seen and named. `--only
KIND:NUMBER` repeats one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.faults.targets import TARGETS, Target

from fulgurite.errors import FulguriteError

MOST_SECONDS = 15.0
"""Of one mutation, on a machine that does other things as well."""
MOST_TEXT = 3000
"""Characters of an error; what is printed is cut at 2,000."""
SILENCE = 90.0
"""Seconds without a word after which a child is ended."""
SLICE = 100
"""Mutations of one child process."""


def attempt(target: Target, seed: int, number: int, folder: Path) -> tuple[str, str]:
    """Makes mutation `number` and tries it. Returns "good", "part" (bad records among good), "refused" or "fault", and
    what was said."""
    begin = time.monotonic()
    try:
        found, said = target.attempt(seed, number, folder), ""
    except FulguriteError as error:
        found, said = "refused", str(error)
        if len(said) > MOST_TEXT:
            return "fault", f"the error has {len(said):,} characters: {said[:200]}"
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "fulgurite" in frame.filename]
        place = f"{last.filename}:{last.lineno}" + (f", from {ours[-1].filename}:{ours[-1].lineno}" if ours else "")
        return "fault", f"{type(error).__name__}: {str(error)[:200]} at {place}"
    if (seconds := time.monotonic() - begin) > MOST_SECONDS:
        return "fault", f"{seconds:.0f} seconds: {said[:200]}"
    return found, said


def work(kind: str, seed: int, first: int, last: int) -> None:
    """A child: tries mutations and writes a line before and after each."""
    with os.fdopen(os.dup(1), "w", buffering=1) as out, tempfile.TemporaryDirectory() as folder:
        os.dup2(2, 1)  # what a library prints does not come between
        os.environ["FULGURITE_CACHE"] = str(Path(folder) / "cache")
        TARGETS[kind].prepare()
        for number in range(first, last):
            print(json.dumps([number]), file=out)
            print(json.dumps([number, *attempt(TARGETS[kind], seed, number, Path(folder))]), file=out)


def tried(kind: str, seed: int, first: int, last: int) -> list[tuple[str, int, str, str]]:
    """Kind, number, outcome and words of each mutation, tried by child processes; one that dies is followed by
    another."""
    found: list[tuple[str, int, str, str]] = []
    while first < last:
        words = [sys.executable, "-m", "tests.faults.fuzz", "--work", f"{kind}:{first}:{last}", "--seed", str(seed)]
        with tempfile.TemporaryFile("w+") as out:
            child = subprocess.Popen(words, stdout=out, stderr=subprocess.DEVNULL)
            status = _wait(child, out)
            out.seek(0)
            lines = [json.loads(line) for line in out if line.endswith("\n")]
        found += [(kind, *line) for line in lines if len(line) == 3]
        begun = max((line[0] for line in lines), default=first)
        if status:
            found.append((kind, begun, "fault", f"the process ended with {status}"))
        first = begun + 1
    return found


def _wait(child: subprocess.Popen[Any], out: Any) -> int:
    """The status of a child; one that writes nothing for a long time is killed."""
    size, since = 0, time.monotonic()
    while child.poll() is None:
        time.sleep(0.1)
        now = os.fstat(out.fileno()).st_size
        if now != size:
            size, since = now, time.monotonic()
        elif time.monotonic() - since > SILENCE:
            child.kill()
            child.wait()
    return child.wait()


def run(count: int, seed: int, workers: int, kinds: list[str]) -> list[tuple[str, int, str, str]]:
    """Tries `count` mutations, shared among the kinds by their weights."""
    total = sum(TARGETS[kind].weight for kind in kinds)
    slices = []
    for kind in kinds:
        share = -(-count * TARGETS[kind].weight // total)
        slices += [(kind, seed, first, min(first + SLICE, share)) for first in range(0, share, SLICE)]
    with ThreadPoolExecutor(workers) as pool:
        return [result for results in pool.map(lambda words: tried(*words), slices) for result in results]


def main() -> int:
    """Prints a table of outcomes and each fault; 1 if there is any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3000, help="mutations in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--kinds", default=",".join(kind for kind in TARGETS if TARGETS[kind].weight),
        help="some of " + ", ".join(TARGETS),
    )
    parser.add_argument("--only", default="", help="KIND:NUMBER, tried in this process with its traceback")
    parser.add_argument("--work", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        kind, first, last = given.work.split(":")
        work(kind, given.seed, int(first), int(last))
        return 0
    if given.only:
        kind, number = given.only.split(":")
        TARGETS[kind].prepare()
        with tempfile.TemporaryDirectory() as folder:
            print(TARGETS[kind].attempt(given.seed, int(number), Path(folder)))
        return 0
    results = run(given.count, given.seed, given.workers, given.kinds.split(","))
    for kind in TARGETS:
        counts = Counter(outcome for name, _, outcome, _ in results if name == kind)
        if counts:
            print(f"{kind:>20}: " + ", ".join(f"{number:,} {outcome}" for outcome, number in sorted(counts.items())))
    faults = [(kind, number, said) for kind, number, outcome, said in results if outcome == "fault"]
    for kind, number, said in faults:
        print(f"fault: --only {kind}:{number} --seed {given.seed}: {said}")
    print(f"{len(results):,} mutations, {len(faults)} faults")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
