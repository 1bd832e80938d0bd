"""Runs rows in a process of their own, so that a row that ends its process or never returns costs only itself.

The worker reads the number of a row from its standard input and writes the result as one JSON line. It stays for the
next row, which spares the imports; after an error of the device, which spoils its process, it ends.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.gpu.rows import Row, list_rows

ROOT = Path(__file__).resolve().parents[2]
Result = dict[str, Any]


def run_row(row: Row, bench: Any) -> Result:
    """Runs one row. Returns its state ("ok", "skipped" or "failed"), its seconds, and its numbers or its error."""
    from benchmarks.gpu.training import RowSkipped, free_memory

    began = time.perf_counter()
    try:
        free_memory(bench)
        result: Result = {"state": "ok", "numbers": row.run(bench)}
    except RowSkipped as reason:
        result = {"state": "skipped", "error": str(reason)}
    except Exception as error:
        result = {
            "state": "failed", "error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc(),
        }
    return {**result, "seconds": round(time.perf_counter() - began, 1)}


def work(bench: Any) -> None:
    """The worker: answers each row on the original standard output; everything else is printed to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    rows = list_rows()
    for line in sys.stdin:
        result = run_row(rows[int(line)], bench)
        answers.write(json.dumps(result) + "\n")
        answers.flush()
        if "CUDA error" in result.get("error", ""):
            return


class Worker:
    """The process that runs rows; it is started for the first row, and anew after it ended."""

    def __init__(self, command: list[str], log: Path) -> None:
        """Takes the command of the process, whose standard error goes to `log`."""
        self._command, self._log = command, log
        self._process: subprocess.Popen[str] | None = None

    def ask(self, number: int, limit: float) -> Result:
        """Returns the result of a row; a failed one if the process ends, a late one if it takes more than `limit`
        seconds."""
        process = self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        began = time.perf_counter()
        try:
            process.stdin.write(f"{number}\n")
            process.stdin.flush()
        except BrokenPipeError:  # it ended after the row before
            self.stop()
            return self.ask(number, limit)
        ready = select.select([process.stdout], [], [], limit)[0]
        answer = process.stdout.readline() if ready else ""
        if answer:
            result: Result = json.loads(answer)
            return result
        seconds = round(time.perf_counter() - began, 1)
        self.stop()
        if not ready:
            return {"state": "late", "error": f"no result after {limit:.0f} s", "seconds": seconds}
        end = " | ".join(self._log.read_text(errors="replace").splitlines()[-3:])
        return {"state": "failed", "error": f"the process ended with status {process.returncode}: {end}",
            "seconds": seconds}

    def _start(self) -> subprocess.Popen[str]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        path = os.pathsep.join([str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")])
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT,
                env=os.environ | {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled", "PYTHONPATH": path},
            )
        return self._process

    def stop(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
        self._process = None


def run_rows(
    rows: dict[int, Row], ask: Callable[[int, float], Result], seconds: float, show: Callable[[Row, Result], None],
    longest: float = 150.0,
) -> list[Result]:
    """Runs the rows in turn until `seconds` have passed; a row that runs then or would begin later is "not reached". A
    row that takes more than `longest` seconds fails."""
    end, found = time.perf_counter() + seconds, []
    for number, row in rows.items():
        left = end - time.perf_counter()
        result = ask(number, min(left, longest)) if left > 0 else {"state": "not reached"}
        if result["state"] == "late":
            result = {**result, "state": "failed"} if left > longest else {"state": "not reached"}
        found.append({"section": row.section, "name": row.name, **result})
        show(row, found[-1])
    return found
