"""The commands that the README shows can be composed as they stand there."""

from __future__ import annotations

import re
import shlex
import warnings
from pathlib import Path

import pytest

from fulgurite.cli.plan import check_word
from fulgurite.config.compose import compose

README = Path(__file__).parents[2] / "README.md"
COMMANDS = [
    line.partition("#")[0].lstrip("$ ").strip()
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", README.read_text(encoding="utf-8"), re.S | re.M)
    if not language
    for line in block.splitlines() if re.match(r"(\$ )?fulgurite (train|plan) ", line)
]


PYTHON = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.S | re.M)


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 12


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_composes(command: str) -> None:
    placed = re.sub(r"<[^>]*>", "some/folder", command)
    placed = re.sub(r"--show (\S+)", lambda shown: check_word(shown[1]) and "", placed)
    words = [word for word in shlex.split(placed)[2:] if word not in ("-m", "--probe", "--json", "--rules")]
    swept = "-m" in shlex.split(placed)
    words = [word.partition(",")[0] if swept and not word.startswith("+") else word for word in words]
    compose([word for word in words if not word.startswith(("resume.run=", "+sweep=", "+find="))])


@pytest.mark.parametrize("block", PYTHON)
def test_python_of_the_readme_runs(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    warnings.simplefilter("ignore")  # Lightning's advice; pytest puts the filters back
    exec(compile(block, "README.md", "exec"), {})
    assert list(tmp_path.glob("runs/*/*/metrics.jsonl"))


def test_the_readme_has_python() -> None:
    assert len(PYTHON) == 1
