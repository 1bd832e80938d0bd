"""A run as the page shows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.board.run_folders import make_run, write_rows

from fulgurite.board.roots import Roots
from fulgurite.board.run_view import describe_details, describe_run, read_command
from fulgurite.board.runs import KnownRun, RunCatalogue
from fulgurite.language.current import use_language


def look(folder: Path) -> tuple[KnownRun, Roots]:
    catalogue = RunCatalogue(Roots([folder.parent], folder.parent))
    [run] = catalogue.list_runs()
    return run, catalogue.roots


def test_run_has_the_fields_of_the_list_and_no_path_outside_its_root(tmp_path: Path) -> None:
    run, roots = look(make_run(tmp_path / "a", choices={"stage": "sft"}, total_steps=3, checkpoint=3))
    shown = describe_run(run, roots)
    assert {k: shown[k] for k in ("folder", "path", "name", "state", "steps", "total_steps", "loss", "choices")} == {
        "folder": "a", "path": "a", "name": "a", "state": "finished", "steps": 3, "total_steps": 3, "loss": 1.0,
        "choices": {"stage": "sft"},
    }
    assert (shown["live"], shown["can_resume"], shown["sweep"], shown["eta"]) == (False, False, None, None)
    assert str(tmp_path) not in json.dumps(shown)
    with use_language("zh"):
        assert describe_run(run, roots)["state_text"] == "已完成"


def test_details_have_what_was_given_found_and_written(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", choices={"stage": "sft"}, knobs={"optim.lr": 1e-4})
    write_rows(folder, [{"step": 0, "prompt": "p", "answer": "a", "stopped": True}], "samples.jsonl")
    found = describe_details(*look(folder))
    assert found["given"] == {"stage": "sft", "optim.lr": 1e-4}
    assert found["samples"] == [{"prompt": "p", "answers": [{"step": 0, "text": "a", "stopped": True}]}]
    assert (found["diagnosis"], found["symptom"]) == ("", None)
    assert found["command"] == "fulgurite train stage=sft optim.lr=0.0001"


@pytest.mark.parametrize(("state", "why", "diagnosis", "seen"), [
    ("failed", "TrainingFailed: Out of memory at step 3.", "Out of memory at step 3.", "Out of memory (OOM)."),
    ("running", "", "The process of this run ended without a word", None),
    ("diverged", "", "The loss rose and stayed high", None),
    ("stopped", "Interrupted: SIGINT", "", None),
])
def test_a_run_that_ended_badly_has_a_diagnosis(
    tmp_path: Path, state: str, why: str, diagnosis: str, seen: str | None
) -> None:
    """A run that is `running` and holds no lock has died."""
    found = describe_details(*look(make_run(tmp_path / "a", state=state, why=why)))
    assert found["diagnosis"].startswith(diagnosis)
    assert bool(found["diagnosis"]) == bool(diagnosis)
    assert (found["symptom"] and found["symptom"]["seen"]) == seen


@pytest.mark.parametrize("content", ["", "[", "{}", '{"overrides": 7}'])
def test_damaged_provenance_has_no_command(tmp_path: Path, content: str) -> None:
    (tmp_path / "provenance.json").write_text(content)
    assert read_command(tmp_path) == ""


def test_command_can_be_pasted_into_a_shell(tmp_path: Path) -> None:
    words = ["data.path=my data.jsonl", "run_dir=x", "name='; rm -rf /'", 7, "sweep.trial=3"]
    (tmp_path / "provenance.json").write_text(json.dumps({"overrides": words}))
    assert read_command(tmp_path) == """fulgurite train 'data.path=my data.jsonl' 'name='"'"'; rm -rf /'"'"''"""
