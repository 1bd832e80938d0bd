"""The run of a Slurm job that was started again: it is found by the job's number and the words."""

from __future__ import annotations

import json
import os
from pathlib import Path

from fulgurite.run.restarted import continue_words, find_finished

AGAIN = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train", "SLURM_RESTART_COUNT": "1"}
WORDS = ["model=tiny", "seed=1"]


def make_run(root: Path, name: str, words: list[str], job: str = "7", state: str = "stopped", age: int = 0) -> Path:
    folder = root / "2026-01-01" / name
    folder.mkdir(parents=True)
    (folder / "status.json").write_text(json.dumps({"state": state, "slurm_job": job}))
    (folder / "provenance.json").write_text(json.dumps({"overrides": words}))
    os.utime(folder, (1e9 - age, 1e9 - age))
    return folder


def test_the_run_of_the_same_job_and_words_goes_on(tmp_path: Path) -> None:
    make_run(tmp_path, "other-job", WORDS, job="8")
    make_run(tmp_path, "other-words", ["model=tiny", "seed=2"])
    make_run(tmp_path, "older", WORDS, age=60)
    mine = make_run(tmp_path, "mine", [*WORDS, "run_dir='x'"])
    (tmp_path / "2026-01-01" / "broken").mkdir()
    (tmp_path / "2026-01-01" / "broken" / "status.json").write_text("{")
    assert continue_words(WORDS, AGAIN, tmp_path) == [*WORDS, f"run_dir='{mine}'"]


def test_words_stay_as_they_are_otherwise(tmp_path: Path) -> None:
    make_run(tmp_path, "mine", WORDS)
    first = {name: value for name, value in AGAIN.items() if name != "SLURM_RESTART_COUNT"}
    assert continue_words(WORDS, first, tmp_path) == WORDS
    assert continue_words(WORDS, {}, tmp_path) == WORDS
    assert continue_words(["seed=3"], AGAIN, tmp_path) == ["seed=3"]
    for word in ("run_dir=a", "resume.run=a"):
        assert continue_words([*WORDS, word], AGAIN, tmp_path) == [*WORDS, word]


def test_a_run_that_has_ended_is_not_begun_again(tmp_path: Path) -> None:
    for state, ended in (("finished", True), ("stopped", False), ("failed", False), ("running", False)):
        folder = make_run(tmp_path, state, WORDS, state=state)
        words = [*WORDS, f"run_dir={folder}"]
        assert find_finished(words, AGAIN) == (folder if ended else None)
        assert find_finished(words, {}) is None
    assert find_finished(WORDS, AGAIN) is None
    assert find_finished([f"run_dir={tmp_path / 'none'}"], AGAIN) is None
