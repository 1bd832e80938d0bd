"""Jobs of a multirun: how each ends, and the exit status of the command."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fulgurite.config.hydra_app import Outcome, complete, hydra_main, read_outcome
from fulgurite.config.provenance import Composed
from fulgurite.errors import ConfigError, Interrupted, Pruned, RequestError, TrainingFailed


def run_seeds(folder: Path, ends: dict[int, Any], seeds: str = "1,2,3") -> tuple[int | str, list[int]]:
    """The exit status of a multirun over seeds, of which each raises or returns what `ends` has, and the seeds seen."""
    seen: list[int] = []

    def job(composed: Composed) -> int:
        seen.append(composed.run.seed)
        end = ends.get(composed.run.seed, 0)
        if isinstance(end, BaseException):
            raise end
        return int(end)

    try:
        return hydra_main(job, ["model=tiny", f"seed={seeds}", f"run_dir={folder}"], ["--multirun"]), seen
    except Interrupted as error:
        return f"{error} {error.exit_status}", seen


def test_after_a_job_that_fails_the_next_one_begins_and_its_status_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ends = {1: TrainingFailed("no memory"), 2: SystemExit(7)}
    assert run_seeds(tmp_path, ends) == (3, [1, 2, 3])
    shown = capsys.readouterr().err
    assert "Trial 1 (model=tiny seed=1" in shown
    assert ": no memory" in shown
    assert "the code of the trial called sys.exit(7)" in shown


def test_a_pruned_job_is_no_failure(tmp_path: Path) -> None:
    assert run_seeds(tmp_path, {1: Pruned("worse")}, "1,2") == (0, [1, 2])


def test_after_an_interrupt_no_job_begins(tmp_path: Path) -> None:
    assert run_seeds(tmp_path, {1: Interrupted("stopped")}, "1,2") == ("stopped 130", [1])


class Broken:
    """A job whose launcher lost its result."""

    overrides = ("seed=1",)

    @property
    def return_value(self) -> Any:
        raise OSError("the\n node is gone")


def test_what_a_launched_job_came_to(capsys: pytest.CaptureFixture[str]) -> None:
    done = Outcome(0)
    assert read_outcome(SimpleNamespace(return_value=done)) is done
    assert read_outcome(SimpleNamespace(return_value=None)) == Outcome(3, "the launcher brought nothing back")
    assert read_outcome(Broken()) == Outcome(3, "OSError: the node is gone")
    assert "seed=1: OSError: the node is gone" in capsys.readouterr().err


def test_an_error_of_hydra_is_one_sentence_of_ours(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There is no optim=adamv"):
        hydra_main(lambda composed: 0, ["optim=adamv"], ["--multirun"])


def test_completion_refuses_other_words() -> None:
    with pytest.raises(RequestError, match="Write install=bash, query=bash or uninstall=bash"):
        complete(["query=cobol"])
