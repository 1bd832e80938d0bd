"""Tab completion: of commands by us, of groups and parameters by Hydra."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

from fulgurite.cli.completion import completion_main
from fulgurite.cli.main import main


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("fulgurite tr", "train"), ("fulgurite train optim=ada", "optim=adafactor"),
        ("fulgurite train optim.l", "optim.lr="),
    ],
)
def test_tab_completes_commands_options_and_parameters(
    line: str, expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    assert main(["-sc", "query=bash"]) == 0
    assert expected in capsys.readouterr().out.split()


def test_tab_completion_installs_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-sc", "install=bash"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("hydra_bash_completion fulgurite")


@pytest.mark.parametrize(
    ("line", "shown"),
    [("fulgurite train optim.l", "fulgurite optim.l"), ("fulgurite plan -m a", "fulgurite -m a")],
)
def test_hydra_gets_the_line_without_the_command(line: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Sequence[str], str]] = []

    def complete(words: Sequence[str]) -> int:
        seen.append((words, os.environ["COMP_LINE"]))
        raise RuntimeError

    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setattr("fulgurite.config.hydra_app.complete", complete)
    with pytest.raises(RuntimeError):
        completion_main(["query=bash"], ["train", "plan"])
    assert seen == [(["query=bash"], shown)]
    assert os.environ["COMP_LINE"] == line


@pytest.mark.parametrize(
    ("line", "printed"),
    [
        ("fulgurite ", "train plan runs\n"), ("fulgurite p", "plan\n"), ("fulgurite x", "\n"),
        ("fulgurite runs some", ""),
    ],
)
def test_commands_are_completed_without_hydra(
    line: str, printed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setattr("fulgurite.config.hydra_app.complete", lambda words: pytest.fail("Hydra was asked"))
    assert completion_main(["query=bash"], ["train", "plan", "runs"]) == 0
    assert capsys.readouterr().out == printed
