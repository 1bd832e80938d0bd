"""The limits of the rules: each has its source."""

from __future__ import annotations

import ast
from itertools import pairwise
from pathlib import Path

from fulgurite.monitor import thresholds

SOURCES = ("urs", "LLaMA-Factory", "float32", "usual")
"""Parts of "Ours" and of other sources."""


def test_every_limit_has_a_source() -> None:
    body = ast.parse(Path(thresholds.__file__).read_text(encoding="utf-8")).body
    assert sum(isinstance(node, ast.Assign) for node in body) > 20
    for here, after in pairwise(body):
        if isinstance(here, ast.Assign):
            assert isinstance(after, ast.Expr), ast.unparse(here)
            assert any(word in ast.literal_eval(after.value) for word in SOURCES), ast.unparse(here)
