"""Large files are read with the memory of a record, not of the file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

MEGABYTES = 100
WORDS = "some words of an answer " * 200
COUNT = MEGABYTES * 1_000_000 // len(WORDS)
FORMS = {
    "a.jsonl": ("", '{{"instruction": "question {}", "output": "' + WORDS + '"}}\n', ""),
    "a.json": ("[", '{{"instruction": "question {}", "output": "' + WORDS + '"}},\n',
        '{"instruction": "q", "output": "a"}]'),
    "a.csv": ("instruction,output\n", '"question {}","' + WORDS + '"\n', ""),
}
"""What a file of each kind begins with, a record of it, and its end."""
CODE = """
import resource, sys
from fulgurite.data.config import File
from fulgurite.data.build import build_source
source = build_source(File(path=sys.argv[1:]), stage="sft", seed=1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = source.check()
print(found.good, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.fixture
def large(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file of 100 MB in the form of its name; removed after the test."""
    path, (head, record, end) = tmp_path / request.param, FORMS[request.param]
    with path.open("w", encoding="utf-8") as out:
        out.write(head)
        out.writelines(record.format(n) for n in range(COUNT))
        out.write(end)
    yield path
    path.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("large", FORMS, indirect=True)
def test_100_megabytes_are_checked_in_5(large: Path) -> None:
    """Linux counts ru_maxrss in KiB."""
    assert large.stat().st_size > 1e6 * MEGABYTES
    done = subprocess.run([sys.executable, "-c", CODE, str(large)], capture_output=True, text=True, check=True)
    good, grown = map(int, done.stdout.split())
    assert good == COUNT + (large.suffix == ".json")
    assert grown < 5, f"memory grew by {grown} MB"
