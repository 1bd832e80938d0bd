"""A search over a formula in the place of training: what the study remembers, ends, passes over and goes on with."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from fulgurite.config.compose import compose
from fulgurite.config.hydra_app import Outcome
from fulgurite.config.provenance import Composed
from fulgurite.errors import ConfigError, Interrupted
from fulgurite.sweep import study as kept
from fulgurite.sweep.search import Search, prepare_search, search
from fulgurite.sweep.spaces import Span, Values
from fulgurite.sweep.storage import open_storage


@event.listens_for(Engine, "connect")
def _no_waiting_for_the_disk(connection: Any, record: Any) -> None:
    """A study's file need not survive a power cut here; that of a killed process it survives in the system's memory."""
    if type(connection).__module__.startswith("sqlite3"):
        connection.execute("PRAGMA synchronous=OFF")


WORDS = ["+sweep=sft_lora", "model=tiny", "sweep.knobs=[optim.lr,method.rank]"]


def begun(folder: Path, *words: str) -> tuple[Search, Composed]:
    shared = [*WORDS, *words]
    base = compose([*shared, f"run_dir={folder}"])
    return prepare_search(base, shared, {}, folder), base


def trained(job: list[str]) -> dict[str, str]:
    return {w.partition("=")[0]: w.partition("=")[2].strip("'") for w in job}


class Formula:
    """Replaces the launcher: the loss is the distance of log10(rate) from -3, reported at a fifth, two fifths and the
    end of each run."""

    def __init__(self, fails: dict[int, Outcome] | None = None) -> None:
        self.fails, self.seen = fails or {}, []

    def __call__(self, jobs: list[list[str]], first: int) -> list[Outcome]:
        return [self.one(job) for job in jobs]

    def one(self, job: list[str]) -> Outcome:
        said = trained(job)
        sweep = compose(job).run.sweep
        self.seen.append((float(said["optim.lr"]), int(said["method.rank"])))
        told = kept.report(sweep)
        for percent in (20, 40, 100):
            if percent == 40 and (outcome := self.fails.get(int(said["sweep.trial"]))) is not None:
                return outcome
            loss = abs(math.log10(float(said["optim.lr"])) + 3) + 1 / percent
            if (why := told(percent, loss)) is not None:
                return Outcome(0, why, pruned=True)
        return Outcome(0)


def trials(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]


def ran(folder: Path, launch: Formula, *words: str) -> list[dict[str, Any]]:
    what, base = begun(folder, *words)
    search(what, base, launch)
    return trials(folder)


def test_first_trial_has_the_usual_values_and_the_table_has_the_best(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = ran(tmp_path, Formula(), "sweep.trials=4", "sweep.sampler=random", "sweep.pruner=none")
    assert found[0]["values"] == {"optim.lr": 1e-3, "method.rank": 16}
    assert [t["state"] for t in found] == ["complete"] * 4
    assert min(t["value"] for t in found) == found[0]["value"] == pytest.approx(1 / 100)
    out = capsys.readouterr().out
    assert "4 trials complete, 0 ended early, 0 failed" in out
    assert "optim.lr=0.001 method.rank=16" in out
    assert "trial 0 is in" in out
    assert "optim.lr  method.rank" in out
    assert "<svg" in (tmp_path / "sweep.svg").read_text()


@pytest.mark.parametrize("sampler", ["tpe", pytest.param("random", marks=pytest.mark.matrix)])
def test_a_study_that_goes_on_draws_what_it_would_have_drawn(tmp_path: Path, sampler: str) -> None:
    trials = {"tpe": 13, "random": 6}[sampler]  # tpe draws its first ten at random
    words = [f"sweep.sampler={sampler}", "sweep.study=one", "sweep.pruner=none"]
    whole = ran(tmp_path / "whole", Formula(), f"sweep.trials={trials}", *words)
    ran(tmp_path / "parts", Formula(), f"sweep.trials={trials - 2}", *words)
    parts = ran(tmp_path / "parts", Formula(), f"sweep.trials={trials}", *words)
    assert parts == whole
    assert len({t["values"]["optim.lr"] for t in whole}) == trials


def test_a_bad_trial_is_ended_while_it_runs(tmp_path: Path) -> None:
    found = ran(tmp_path, Formula(), "sweep.trials=10", "sweep.sampler=random")
    ended = [t for t in found if t["state"] == "pruned"]
    assert ended
    assert all(len(t["evaluations"]) < 3 and "worse than the median" in t["why"] for t in ended)
    assert all(t["evaluations"]["20"] > min(x["evaluations"]["20"] for x in found[:5]) for t in ended)
    assert len([t for t in found[:5] if t["state"] == "complete"]) == 5


def test_a_failed_trial_is_written_down_and_passed_over(tmp_path: Path) -> None:
    fails = {1: Outcome(3, "Step 2: the loss is not finite."), 3: Outcome(1, "RuntimeError: what nobody foresaw")}
    found = ran(tmp_path, Formula(fails), "sweep.trials=5", "sweep.pruner=none")
    assert [t["state"] for t in found] == ["complete", "fail", "complete", "fail", "complete"]
    assert (found[1]["why"], found[3]["why"]) == (fails[1].why, fails[3].why)


def test_search_ends_if_the_first_trials_all_fail(tmp_path: Path) -> None:
    what, base = begun(tmp_path, "sweep.trials=30")
    launch = Formula({n: Outcome(2, "There is no such file.") for n in range(30)})
    with pytest.raises(ConfigError, match=r"The first 3 trials failed, the last one with: There is no such file\."):
        search(what, base, launch)
    assert len(launch.seen) == 3


@pytest.mark.parametrize("status", Interrupted.STATUSES)
def test_a_stopped_search_goes_on_with_the_trial_that_was_cut_off(status: int, tmp_path: Path) -> None:
    what, base = begun(tmp_path, "sweep.trials=4", "sweep.pruner=none")
    launch = Formula({2: Outcome(status, "Stopped by a signal.")})
    with pytest.raises(Interrupted, match="The same command goes on") as caught:
        search(what, base, launch)
    assert caught.value.exit_status == status
    found = ran(tmp_path, Formula(), "sweep.trials=4", "sweep.pruner=none")
    assert [t["state"] for t in found] == ["complete", "complete", "fail", "complete", "complete"]
    assert found[3]["values"] == found[2]["values"] == dict(
        zip(("optim.lr", "method.rank"), launch.seen[2], strict=True),
    )
    assert found[3]["folder"] == "2"


def test_a_trial_of_a_process_that_is_gone_is_taken_up_again_and_a_living_one_is_left(tmp_path: Path) -> None:
    import subprocess
    import sys

    what, _ = begun(tmp_path, "sweep.trials=3", "sweep.pruner=none")
    study = kept.open_study(what.sweep, open_storage(str(what.sweep.storage)))
    number, values = kept.ask(study, what.spaces, tmp_path)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    study._storage.set_trial_user_attr(kept.get_trial(study, number)._trial_id, "pid", gone.pid)
    study._storage.set_trial_user_attr(kept.get_trial(study, number)._trial_id, "lock", str(tmp_path / "released.lock"))
    other, _ = kept.ask(study, what.spaces, tmp_path)
    study._storage.set_trial_user_attr(kept.get_trial(study, other)._trial_id, "host", "another-machine")
    assert len(kept.settle(study, what.sweep, tmp_path)) == 1
    states = [t.state.name for t in study.get_trials()]
    assert states == ["FAIL", "RUNNING", "WAITING"]
    assert kept.ask(study, what.spaces, tmp_path) == (2, values)


def test_only_the_best_trials_keep_their_checkpoints(tmp_path: Path) -> None:
    class Writes(Formula):
        def one(self, job: list[str]) -> Outcome:
            (Path(trained(job)["run_dir"]) / "checkpoints" / "last").mkdir(parents=True)
            return super().one(job)

    found = ran(tmp_path, Writes(), "sweep.trials=4", "sweep.keep=2", "sweep.pruner=none", "sweep.sampler=random")
    left = {int(p.parent.name) for p in tmp_path.glob("*/checkpoints")}
    assert left == {t["trial"] for t in sorted(found, key=lambda t: t["value"])[:2]}


def test_search_without_evaluation_or_parameters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="A search compares trials by an evaluation"):
        begun(tmp_path, "data.val_fraction=0")
    with pytest.raises(ConfigError, match="The search has no parameters"):
        begun(tmp_path, "optim.lr=1e-3", "method.rank=8")
    with pytest.raises(ConfigError, match="holds a password"):
        open_storage("postgresql://me:secret@host/db")
    with pytest.raises(ConfigError, match=r"sweep\.storage=nonsense cannot be opened"):
        open_storage("nonsense")


def test_a_range_of_ones_own_wins_and_a_value_is_fixed(tmp_path: Path) -> None:
    base = compose(["+sweep=sft_lora", "method.rank=8", f"run_dir={tmp_path}"])
    what = prepare_search(base, ["+sweep=sft_lora", "method.rank=8"], {"optim.lr": Span(1e-5, 1e-4, True)}, tmp_path)
    assert what.spaces["optim.lr"] == Span(1e-5, 1e-4, True)
    assert "method.rank" not in what.spaces
    assert isinstance(what.spaces["trainer.global_batch_size"], Values)
