"""The comments at the head of each option's YAML, which are written from the declarations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from fulgurite.config.schema import Empty, Option, knob, list_groups
from fulgurite.explain import conf_comments
from fulgurite.explain.conf_comments import LINE, WIDTH, build_block, main, refresh


@dataclass(slots=True)
class Example(Option):
    """Does one thing.

    And explains it.
    """

    room: ClassVar[str] = "optim"
    name: ClassVar[str] = "example"
    rate: float | None = knob(None, "How fast.", source="Ours", empty=Empty("the usual one"))
    nesterov: bool = knob(True, "Whether " + "it looks far ahead " * 10 + "on its way.", source="Ours")


def test_block_has_the_docstring_and_a_line_for_each_parameter() -> None:
    lines = build_block(Example).splitlines()
    assert lines[:4] == ["# Does one thing.", "#", "# And explains it.", "#"]
    assert lines[4] == "#   optim.rate      (empty)  How fast."
    assert lines[5].startswith("#   optim.nesterov  true     Whether it looks far ahead ")
    assert lines[5].endswith(" ...")
    assert len(lines[5]) <= WIDTH
    assert lines[6:] == ["# More: fulgurite explain optim=example", LINE]


def test_text_below_the_line_is_kept_and_the_package_line_stays_first(tmp_path: Path) -> None:
    path = tmp_path / "example.yaml"
    path.write_text("# @package _global_\n# an old comment\n" + LINE + "\ndefaults:\n  - base\nrate: 3\n")
    text = refresh(path, Example)
    assert text == f"# @package _global_\n{build_block(Example)}\ndefaults:\n  - base\nrate: 3\n"
    path.write_text(text)
    assert refresh(path, Example) == text


def test_file_without_the_line_is_kept_whole(tmp_path: Path) -> None:
    path = tmp_path / "example.yaml"
    path.write_text("rate: 3\n")
    assert refresh(path, Example) == f"{build_block(Example)}\nrate: 3\n"


def test_check_names_stale_files_and_writes_none_and_a_run_writes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "optim").mkdir()
    path = tmp_path / "optim" / "sgd.yaml"
    path.write_text("momentum: 0.5\n")
    monkeypatch.setattr(conf_comments, "find_conf_dir", lambda: tmp_path)
    assert main(["--check"]) == 1
    assert capsys.readouterr().out.endswith(": optim/sgd.yaml\n")
    assert path.read_text() == "momentum: 0.5\n"
    assert main([]) == 0
    assert path.read_text() == f"{build_block(list_groups()['optim']['sgd'])}\nmomentum: 0.5\n"
    assert main(["--check"]) == 0
    assert sum(map(len, list_groups().values())) > 50
