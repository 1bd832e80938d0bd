"""Which values are code, and which are paths."""

from __future__ import annotations

import pytest

from fulgurite.board.draft import find_knob
from fulgurite.board.draft_guard import has_code, is_place, list_paths
from fulgurite.config.run import list_all_knobs


@pytest.mark.parametrize(("name", "text", "code"), [
    ("plugins", "[a]", True), ("plugins", "[]", False), ("model.trust_remote_code", "TRUE", True),
    ("model.trust_remote_code", "false", False), ("model.revision", "abc", True), ("stage.reward", "[a.py:f]", True),
    ("stage.reward", "[length:9]", False), ("hydra.run.dir", "x", True), ("hydra/launcher", "joblib", True),
    ("optim.lr", "a.py", False),
])
def test_words_that_let_code_run(name: str, text: str, code: bool) -> None:
    assert has_code(name, text) is code


def test_parameters_that_name_places() -> None:
    assert {knob.path for knob in list_all_knobs() if is_place(knob)} == {
        "data.path", "data.val_path", "data.registry", "model.path", "method.adapter_path", "stage.reference",
        "stage.reward", "run_dir", "resume.run",
    }


@pytest.mark.parametrize(("name", "text", "paths"), [
    ("data.path", "[a.jsonl, hub:a/b, 'c, d']", ["a.jsonl", "c, d"]), ("data.path", "", []), ("optim.lr", "1", []),
    ("stage.reward", r"[regex:^\S+$, length:5, /runs/rm, ~/x, runs/rm, a.py:f]", ["/runs/rm", "~/x", "runs/rm"]),
    ("model.path", "a/b", []), ("model.path", "a/b/c", ["a/b/c"]), ("model.path", "/a", ["/a"]),
])
def test_paths_in_a_value(name: str, text: str, paths: list[str]) -> None:
    knob = find_knob(name, {"stage": "grpo", "model": "hf", "data": "file"})
    assert list_paths(knob, text) == paths
