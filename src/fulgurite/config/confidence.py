"""How sure a parameter's source is, read from the source's own words."""

from __future__ import annotations

import re
from enum import StrEnum


class Sure(StrEnum):
    """How sure a knob's source is."""

    measured = "measured"
    verified = "verified"
    paper = "paper"
    practice = "practice"
    ours = "ours"


_PATTERNS = (
    (Sure.measured, re.compile(r"\bmeasured\b", re.I)),
    (Sure.ours, re.compile(r"^ours\b", re.I)),
    (Sure.verified, re.compile(r"\(verified|, verified\)")),
    (Sure.paper, re.compile(r"arxiv\.org|et al\.|\bpaper\b")),
    (Sure.practice, re.compile(r"\b(practice|docs|guide|defaults?|TRL|LLaMA-Factory|HF|Lightning|axolotl)\b")),
)
"""The words of a source that show how sure it is; the first kind found counts.
Docs and other tools' defaults are practice."""


def grade_source(source: str) -> Sure | None:
    """How sure a source is, by its own words; None where they do not say."""
    return next((sure for sure, pattern in _PATTERNS if pattern.search(source)), None)
