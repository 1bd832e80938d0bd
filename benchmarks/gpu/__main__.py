"""The command: `python -m benchmarks.gpu [--cpu] [--minutes 10] [--out FILE] [--only SECTION ...]`."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

NEEDED = ("lightning", "hydra", "omegaconf", "transformers", "peft", "safetensors", "pyarrow", "rich", "psutil")
"""What every row imports. Another missing package skips or fails its own rows."""


def read_arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """Returns the arguments of the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="One table of what a GPU can show.")
    parser.add_argument("--cpu", action="store_true", help="run the same rows with tiny sizes on the CPU")
    parser.add_argument("--minutes", type=float, default=10.0, help="rows that begin later are not reached")
    parser.add_argument("--out", type=Path, default=Path("benchmarks-gpu.json"), help="the JSON file to write")
    parser.add_argument("--only", nargs="+", help="sections or row names to run")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    """Runs the rows and prints the tables. Returns 0 if no row failed, 1 if one did, 2 if nothing could run."""
    asked = read_arguments(given)
    missing = [name for name in ("torch", *NEEDED) if importlib.util.find_spec(name) is None]
    if missing:
        print(f"Missing packages: {', '.join(missing)}. Install them first.", file=sys.stderr)
        return 2
    import torch

    from benchmarks.gpu.scale import GPU, TINY, Bench

    if not asked.cpu and not torch.cuda.is_available():
        print("torch sees no GPU. --cpu runs the same rows with tiny sizes on the CPU.", file=sys.stderr)
        return 2
    if asked.worker is not None:
        from benchmarks.gpu.worker import work

        work(Bench(TINY if asked.cpu else GPU, "cpu" if asked.cpu else "cuda", asked.worker))
        return 0
    return run_table(asked)


def run_table(asked: argparse.Namespace) -> int:
    """Runs the rows that were asked for, in a worker."""
    from benchmarks.gpu.device import list_versions
    from benchmarks.gpu.report import format_tables, summarise, write_json
    from benchmarks.gpu.rows import list_rows
    from benchmarks.gpu.worker import Worker, run_rows

    rows = {n: row for n, row in enumerate(list_rows()) if not asked.only or {row.section, row.name} & {*asked.only}}
    if not rows:
        known = ", ".join(dict.fromkeys(row.section for row in list_rows()))
        print(f"No row matches {' '.join(asked.only)}; the sections are {known}.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["FULGURITE_CACHE"] = str(Path(scratch) / "cache")
        command = [sys.executable, "-m", "benchmarks.gpu", "--worker", scratch, *(["--cpu"] if asked.cpu else [])]
        worker = Worker(command, Path(scratch) / "log")
        try:
            results = run_rows(
                rows, worker.ask, asked.minutes * 60, lambda _, result: print(
                    f"{result['section']}: {result['name']}: {result['state']} {result.get('error', '')}"[:300],
                    flush=True, file=sys.stderr,
                ),
            )
        finally:
            worker.stop()
    write_json(asked.out, {"cpu": asked.cpu, "versions": list_versions()}, results)
    print(format_tables(results))
    print(f"\n{summarise(results)}\n{asked.out}")
    return int(any(result["state"] == "failed" for result in results))


if __name__ == "__main__":
    raise SystemExit(main())
