"""Large files are read with the memory of a record, not of the file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

MEGABYTES = 200
CODE = """
import resource, sys
from fulgurite.data.config import File
from fulgurite.data.source import build_source
source = build_source(File(path=sys.argv[1:]), stage="sft", seed=1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = source.check()
print(found.good, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_200_megabytes_are_checked_in_50(name: str, tmp_path: Path) -> None:
    """Linux counts ru_maxrss in KiB."""
    path, words = tmp_path / name, "some words of an answer " * 40
    count = MEGABYTES * 1_000_000 // (len(words) + 60)
    with path.open("w", encoding="utf-8") as out:
        out.write({"a.json": "[", "a.csv": "instruction,output\n"}.get(name, ""))
        for n in range(count):
            row = {"instruction": f"question {n}", "output": words}
            line = f'"{row["instruction"]}","{words}"' if name == "a.csv" else json.dumps(row)
            out.write(line + (",\n" if name == "a.json" and n < count - 1 else "\n"))
        out.write("]" * (name == "a.json"))
    assert path.stat().st_size > 0.9e6 * MEGABYTES
    done = subprocess.run([sys.executable, "-c", CODE, str(path)], capture_output=True, text=True, check=True)
    good, grown = map(int, done.stdout.split())
    assert good == count
    assert grown < 50, f"memory grew by {grown} MB"
