"""The table of promises names tests that are there, and leaves no promise out."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROWS = [
    line
    for line in (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8").splitlines()
    if re.match(r"\| T\d+ ", line)
]


def cited(row: str) -> list[str]:
    return re.findall(r"`([\w/]+\.py::\w+)`", row)


def test_every_promise_has_a_row():
    assert [int(re.match(r"\| T(\d+)", row)[1]) for row in ROWS] == list(range(1, 41))


def test_every_row_has_a_test_or_says_that_the_thing_is_not_built():
    assert [row[:6] for row in ROWS if not cited(row) and not row.endswith("| not built |")] == []


def test_every_test_that_is_named_is_there():
    gone = []
    for name in (name for row in ROWS for name in cited(row)):
        file, _, function = name.partition("::")
        path = ROOT / "tests" / file
        if not path.is_file() or f"\ndef {function}(" not in path.read_text(encoding="utf-8"):
            gone.append(name)
    assert gone == []
