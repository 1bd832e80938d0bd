"""The YAML file of each option, which is written from the declarations."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from fulgurite.config.compose import compose
from fulgurite.config.decision import Kind
from fulgurite.config.paths import find_conf_dir
from fulgurite.config.run import load_options
from fulgurite.config.schema import Empty, Option, knob, list_groups, list_knobs
from fulgurite.explain import conf_comments
from fulgurite.explain.conf_comments import NOTE, WIDTH, build_file, format_default, main, refresh


class Way(StrEnum):
    off = "off"


@dataclass(slots=True)
class Example(Option):
    """Does one thing.

    And explains it.
    """

    room: ClassVar[str] = "optim"
    name: ClassVar[str] = "example"
    rate: float | None = knob(None, "How fast.", source="Ours", empty=Empty("the usual one"))
    nesterov: bool = knob(True, "Whether " + "it looks far ahead " * 10 + "on its way.", source="Ours")


def test_file_has_the_docstring_and_a_live_line_for_each_parameter() -> None:
    lines = build_file(Example).splitlines()
    assert lines[:3] == ["# Does one thing.", "#", "# And explains it."]
    assert lines[3:5] == ["# More: fulgurite explain optim=example", NOTE]
    assert lines[5:9] == ["defaults:", "  - /schema/optim/example@_here_", "  - _self_", ""]
    assert lines[9] == "rate: null      # How fast. Empty: the usual one."
    assert lines[10].startswith("nesterov: true  # Whether it looks far ahead ")
    assert lines[11].startswith("                # ahead it looks")
    assert max(map(len, lines)) <= WIDTH


def test_meaning_is_never_cut() -> None:
    text = " ".join(build_file(Example).split())
    assert "it looks far ahead on its way." in text.replace("# ", "")


@pytest.mark.parametrize(("value", "text"), [
    (None, "null"), (1e-8, "1.0e-08"), (Way.off, "'off'"), ("a", "a"), ([0.9, 0.99], "[0.9, 0.99]"), ({}, "{}"),
    (True, "true"), ("", "''"),
])
def test_defaults_are_read_back_as_they_are(value: Any, text: str) -> None:
    assert format_default(value) == text
    assert yaml.safe_load(text) == value


def test_package_line_stays_first(tmp_path: Path) -> None:
    path = tmp_path / "example.yaml"
    path.write_text("# @package logger.example\n# an old comment\nrate: 3\n")
    text = refresh(path, Example)
    assert text == "# @package logger.example\n" + build_file(Example)
    path.write_text(text)
    assert refresh(path, Example) == text


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
    assert path.read_text() == build_file(list_groups()["optim"]["sgd"])
    assert main(["--check"]) == 0
    assert sum(map(len, list_groups().values())) > 50


def test_every_live_line_is_a_parameter_with_its_default() -> None:
    load_options()
    for group, named in list_groups().items():
        for name, cls in named.items():
            path = find_conf_dir() / group / f"{name}.yaml"
            if path.is_file():
                live = yaml.safe_load(path.read_text(encoding="utf-8"))
                live.pop("defaults")
                assert list(live) == [found.name for found in list_knobs(cls)], path


def test_an_edited_line_is_used_and_is_no_default(tmp_path: Path) -> None:
    """Somebody opens the file of an option, changes a line, and trains."""
    source = find_conf_dir() / "optim" / "adamw.yaml"
    (tmp_path / "optim").mkdir()
    text = source.read_text(encoding="utf-8").replace("weight_decay: 0.0 ", "weight_decay: 0.1 ")
    (tmp_path / "optim" / "mine.yaml").write_text(text)
    composed = compose(["model=tiny", "optim=mine"], tmp_path)
    assert composed.run.optim.weight_decay == 0.1
    assert composed.provenance["optim.weight_decay"].kind is Kind.preset
    assert composed.provenance["optim.eps"].kind is Kind.default
