"""What a run tells its person: lines on stderr, from the first of its processes."""

from __future__ import annotations

import os
import sys


def rank() -> int:
    """This process's number, 0 where it is alone."""
    number = os.environ.get("RANK", "")
    return int(number) if number.isdecimal() else 0


def say(text: str) -> None:
    """A line for the person; nothing where there is no text."""
    if text and rank() == 0:
        print(text, file=sys.stderr, flush=True)
