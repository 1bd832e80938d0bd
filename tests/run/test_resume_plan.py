"""The plan for going on with an earlier run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.end_to_end.runs import rows, tiny
from tests.run.halved_run import HALVED_WORDS, run_short_of_memory

from fulgurite.checkpoint.folder import PARTS
from fulgurite.checkpoint.resume import Change
from fulgurite.config.compose import compose
from fulgurite.config.decision import Decision, Kind
from fulgurite.config.resolve import MICRO_BATCH
from fulgurite.errors import CheckpointError
from fulgurite.language.message import UserMessage
from fulgurite.run.folder import write_run
from fulgurite.run.resume_plan import REWOUND, ResumePlan, Rewind, find_resume, preview_resume


def test_a_resume_plan_names_checkpoint_adopted_values_and_dropped_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_short_of_memory(tmp_path, monkeypatch)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 9, "train/loss": 1.0}) + "\n")
    words = ["model=tiny", "precision=fp32", "data.max_samples=60", *HALVED_WORDS, "trainer.max_steps=6"]
    found = preview_resume(compose([*words, "resume.allow=[trainer.max_steps]"]), folder)
    assert found is not None
    assert found.checkpoint == folder / "checkpoints" / "step-4"
    (taken,) = found.adopted
    assert (taken.parameter, taken.value, taken.kind) == (MICRO_BATCH, 1, Kind.halved)
    assert [change.knob for change in found.allowed] == ["trainer.max_steps"]
    (metrics,) = [rewind for rewind in found.rewinds if rewind.file == "metrics.jsonl"]
    assert (metrics.kept, metrics.dropped) == (4, 1)
    assert {rewind.file for rewind in found.rewinds} <= set(REWOUND)
    assert "metrics.jsonl keeps 4 rows and drops 1" in found.describe()
    tiny(folder, *HALVED_WORDS, "trainer.max_steps=5", "resume.allow=[trainer.max_steps]")
    assert [row["step"] for row in rows(folder)][:4] == [1, 2, 3, 4]  # as the plan has it
    assert 9 not in [row["step"] for row in rows(folder)]


def plan(folder: Path, **parts: Any) -> ResumePlan:
    change = Change("optim.lr", 1.0, 2.0)
    taken = Decision(MICRO_BATCH, 2, Kind.halved, UserMessage("halved from 4"))
    usual: dict[str, Any] = {"allowed": (change,), "adopted": (taken,), "trackers": ("wandb",)}
    return ResumePlan(folder, 1200, **(usual | parts))


def test_a_plan_as_plain_values_and_in_words(tmp_path: Path) -> None:
    found = plan(
        tmp_path, refused=(Change("seed", 1, 2),), missing=("rng.json",), rewinds=(Rewind("metrics.jsonl", 3, 0),)
    )
    checkpoint = tmp_path / "checkpoints" / "step-1200"
    assert found.to_json() == {
        "checkpoint": str(checkpoint), "step": 1200, "differs": ["seed"], "allowed": ["optim.lr"],
        "missing": ["rng.json"],
        "adopted": {MICRO_BATCH: 2}, "files": {"metrics.jsonl": {"kept": 3, "dropped": 0}}, "trackers": ["wandb"],
    }
    parts = found.describe().split("; ")
    assert parts[:2] == [f"from {checkpoint}", f"{MICRO_BATCH}=2 as in the earlier run (halved from 4)"]
    assert parts[2].endswith("as resume.allow permits")
    assert parts[3:] == ["metrics.jsonl keeps 3 rows", "wandb continues after step 1,200"]


def test_a_folder_without_checkpoints_has_no_plan(tmp_path: Path) -> None:
    composed = compose(["model=tiny"])
    assert preview_resume(composed, None) is None
    assert preview_resume(composed, tmp_path) is None
    assert find_resume(composed, tmp_path, print) is None
    with pytest.raises(CheckpointError, match=r"has no checkpoint to resume from; start the run again"):
        find_resume(compose(["model=tiny", f"resume.run={tmp_path}"]), tmp_path, print)


def test_what_differs_is_refused_unless_it_is_allowed(tmp_path: Path) -> None:
    write_run(tmp_path, compose(["model=tiny", "optim.lr=0.001"]))
    (tmp_path / "checkpoints" / "step-3").mkdir(parents=True)
    for words, refused, allowed in (
        (["optim.lr=0.001"], [], []), (["optim.lr=0.002"], ["optim.lr"], []),
        (["optim.lr=0.002", "resume.allow=[optim.lr]"], [], ["optim.lr"]),
    ):
        found = preview_resume(compose(["model=tiny", *words]), tmp_path)
        assert found is not None
        assert (found.step, [c.knob for c in found.refused], [c.knob for c in found.allowed]) == (3, refused, allowed)
        assert found.missing == PARTS  # an empty folder has none of them
