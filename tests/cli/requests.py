"""Requests of the command line: a small run, and the line of a request that is refused."""

from __future__ import annotations

import pytest

from fulgurite.cli.main import main

TINY = ["model=tiny", "trainer.max_steps=1", "data.max_samples=40", "precision=fp32", "stage.prompts=[]"]


def read_refusal(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Returns the one line that a refused request prints."""
    status = main(words)
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning: ")]
    assert status == 2, lines
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]
