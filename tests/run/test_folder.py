"""A run's folder: where it is made, what is written into it, and how files of earlier versions are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fulgurite.config.compose import compose
from fulgurite.config.decision import Decision
from fulgurite.config.resolve import put_in_folder
from fulgurite.errors import RequestError
from fulgurite.run.folder import (
    choose_run_folder,
    make_folder,
    read_config,
    read_decisions,
    read_provenance,
    refuse_unwritable,
    write_run,
)


def test_a_given_folder_is_taken_and_a_new_one_has_the_run_s_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert choose_run_folder(None, "given", "earlier") == Path("earlier")
    assert choose_run_folder(None, "given", None) == Path("given")
    monkeypatch.chdir(tmp_path)
    found = choose_run_folder("mine", None, None)
    assert found.parts[0] == "runs"
    assert found.name.endswith("_mine")
    assert found.is_dir()


def test_a_taken_folder_is_never_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folders = [choose_run_folder("mine", None, None) for _ in range(4)]
    assert len(set(folders)) == 4


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").write_text("a file")
    monkeypatch.chdir(tmp_path)
    for make in (lambda: choose_run_folder("mine", None, None), lambda: make_folder(Path("runs/a"))):
        with pytest.raises(
            RequestError, match=r"^runs/.* cannot be created: .*; give run_dir=<a folder that can be written>\.$"
        ):
            make()
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o77 == 0  # its owner's alone


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    composed = put_in_folder(compose(["model=tiny", "optim.lr=1e-3", "stage.prompts=['a \\${b}']"]), tmp_path)
    write_run(tmp_path, composed)
    assert read_config(tmp_path) == composed.dump_config()
    found = read_provenance(tmp_path)
    assert (found["overrides"], found["choices"]) == (list(composed.overrides), dict(composed.choices))
    assert found["knobs"]["optim.lr"] == {"value": 1e-3, "origin": "command line", "reason": ""}
    decisions = read_decisions(tmp_path)
    assert isinstance(decisions["optim.lr"], Decision)
    assert {name: (d.value, d.origin) for name, d in decisions.items() if name.startswith("optim.")} == {
        name: (found["knobs"][name]["value"], d.origin)
        for name, d in composed.provenance.items() if name.startswith("optim.")
    }


@pytest.mark.parametrize(("name", "content"), [
    ("config.yaml", None), ("config.yaml", "a: [1"), ("provenance.json", None), ("provenance.json", "{"),
    ("provenance.json", "[]"),
])
def test_a_folder_without_whole_files_is_no_run(name: str, content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(RequestError, match=rf"is not a run folder: {name} cannot be read"):
        (read_config if name == "config.yaml" else read_provenance)(tmp_path)


def test_files_of_another_shape_are_not_whole(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("- a\n")
    with pytest.raises(RequestError, match="is not a mapping; restore it"):
        read_config(tmp_path)
    for content in ({"knobs": {"seed": {}}}, {}, {"knobs": {"seed": {"value": 1, "origin": "unknown"}}}):
        (tmp_path / "provenance.json").write_text(json.dumps(content))
        with pytest.raises(RequestError, match=r"provenance\.json is damaged; restore it"):
            read_decisions(tmp_path)


@pytest.mark.parametrize(("loss", "origin", "meant"), [
    ("sigmoid", "default", False), ("ipo", "default", True), ("ipo", "command line", False), ("hinge", "default", None),
])
def test_an_earlier_dpo_run_that_did_not_normalise_lengths_reads_as_it_trained(
    loss: str, origin: str, meant: bool | None, tmp_path: Path
) -> None:
    stage: dict[str, Any] = {"option": "dpo", "loss": loss, "length_normalize": False}
    (tmp_path / "config.yaml").write_text(json.dumps({"stage": stage}))
    knobs = {"stage.length_normalize": {"value": False, "origin": origin}}
    (tmp_path / "provenance.json").write_text(json.dumps({"knobs": knobs}))
    assert read_config(tmp_path)["stage"]["length_normalize"] is meant


def test_run_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    refuse_unwritable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(RequestError, match=r"cannot be created: Not a directory; give run_dir="):
            refuse_unwritable(folder)
