"""The words of the source: plain technical English, measured beside lingua, torchtitan, OLMo-core, litgpt and nanochat.

Their rates per 10,000 words over all strings and comments: said and says 0 to 0.4, stands 0, told and tells 0.1 to 1,
lies 0 to 0.2, "where" 1 to 4, "if" 27 to 69. Ours may be twice theirs. Before this test: 15, 10, 8, 6, 46 and 31.
"""

from __future__ import annotations

import io
import re
import tokenize
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "fulgurite"
TEXTS = {"COMMENT", "STRING", "FSTRING_MIDDLE"}
"""The kinds of tokens that hold words: f-strings are one kind before Python 3.12 and another since."""
MOST = {
    "said, says": (r"\b(said|says)\b", 0.8), "stand, stands, stood": (r"\b(stands?|stood)\b", 0.1),
    "tell, tells, told": (r"\b(tells?|told)\b", 2.0), "lie, lies, lay": (r"\b(lies?|lay)\b", 0.4),
    "where": (r"\bwhere\b", 8.0),
}
"""A pattern and the most per 10,000 words."""
LEAST_IF = 27.0


@cache
def read_words() -> str:
    """Returns all strings and comments of the source."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        tokens = tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline)
        found += [token.string for token in tokens if tokenize.tok_name[token.type] in TEXTS]
    return " ".join(found)


def measure_rate(pattern: str) -> float:
    """Returns how often a pattern matches in 10,000 words."""
    text = read_words()
    return len(re.findall(pattern, text, re.IGNORECASE)) / len(re.findall(r"[A-Za-z']+", text)) * 1e4


@pytest.mark.parametrize("word", MOST)
def test_private_words_are_as_rare_as_elsewhere(word: str) -> None:
    pattern, most = MOST[word]
    assert measure_rate(pattern) <= most


def test_conditions_are_written_with_if() -> None:
    assert measure_rate(r"\bif\b") >= LEAST_IF
