"""What a search found, of a study whose trials are made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from fulgurite.config.sweep import Goal, Sweep
from fulgurite.sweep.result import (
    build_course,
    compute_importance,
    find_run_folder,
    format_result,
    format_table,
    rank_trials,
    write,
)

DRAWN = {"optim.lr": FloatDistribution(1e-5, 1e-1, log=True), "method.rank": IntDistribution(1, 64)}
MINIMIZE, MAXIMIZE = Sweep(study="one"), Sweep(study="one", metric="val/accuracy", goal=Goal.maximize)


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(before)


def build_study(*values: float | str, direction: str = "minimize") -> optuna.Study:
    """Builds a study with a trial for each value; a text is the reason of a trial that failed."""
    study = optuna.create_study(direction=direction)
    for n, value in enumerate(values):
        params = {"optim.lr": 10.0 ** -(n % 4 + 1), "method.rank": n + 1}
        if isinstance(value, str):
            study.add_trial(create_trial(
                state=TrialState.FAIL, params=params, distributions=DRAWN, user_attrs={"why": value},
            ))
        else:
            study.add_trial(create_trial(
                value=value, params=params, distributions=DRAWN, intermediate_values={50: value + 1},
            ))
    return study


def test_trials_are_ranked_by_the_goal() -> None:
    assert [t.number for t in rank_trials(build_study(0.5, "boom", 0.2, 0.9), MINIMIZE)] == [2, 0, 3]
    assert [t.number for t in rank_trials(build_study(0.5, "boom", 0.2, 0.9), MAXIMIZE)] == [3, 0, 2]


def test_table_is_aligned() -> None:
    found = format_table(rank_trials(build_study(0.5, 12.25), MINIMIZE), MINIMIZE)
    assert found == [
        "trial  val/loss  optim.lr  method.rank", "    0    0.5000       0.1            1",
        "    1   12.2500      0.01            2",
    ]


def test_course_has_the_best_value_so_far() -> None:
    study = build_study(0.5, "boom", 0.7, 0.2)
    found = build_course(study, MINIMIZE)
    assert found.points == [(0.0, 0.5), (2.0, 0.7), (3.0, 0.2)]
    assert found.line == [(0.0, 0.5), (2.0, 0.5), (3.0, 0.2)]
    assert build_course(study, MAXIMIZE).line == [(0.0, 0.5), (2.0, 0.7), (3.0, 0.7)]
    assert build_course(build_study(0.5, "boom"), MINIMIZE) is None


def test_importance_needs_four_trials_that_differ() -> None:
    assert compute_importance(build_study(0.1, 0.2, 0.3)) == {}
    assert compute_importance(build_study(0.1, 0.1, 0.1, 0.1)) == {}


def test_importance_finds_the_parameter_that_decides() -> None:
    # the loss is the distance of log10(rate) from -3 and does not depend on the rank
    study = build_study(*[abs(3 - (n % 4 + 1)) + 0.001 * (n % 3) for n in range(24)])
    shares = compute_importance(study)
    assert list(shares) == ["optim.lr", "method.rank"]
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["optim.lr"] > 0.6


def test_files_have_every_trial_and_the_course(tmp_path: Path) -> None:
    write(build_study(0.5, "boom"), MINIMIZE, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["trials.jsonl"]  # one value is no course
    write(build_study(0.5, "boom", 0.2), MINIMIZE, tmp_path)
    first, failed, last = [json.loads(line) for line in (tmp_path / "trials.jsonl").read_text().splitlines()]
    assert first == {
        "trial": 0, "state": "complete", "value": 0.5, "values": {"optim.lr": 0.1, "method.rank": 1}, "why": "",
        "folder": "0", "evaluations": {"50": 1.5},
    }
    assert (failed["state"], failed["value"], failed["why"]) == ("fail", None, "boom")
    assert last["trial"] == 2
    assert (tmp_path / "sweep.svg").read_text().startswith("<svg")


def test_text_ends_with_the_command_of_the_best_trial(tmp_path: Path) -> None:
    shared = ["+sweep=sft_lora", "method=lora", "stage.prompts=[]", "seed=3"]
    lines = format_result(build_study(0.5, "boom", 0.2), MINIMIZE, tmp_path, shared, "sft_lora").splitlines()
    assert lines[1] == "one: 2 trials complete, 0 ended early, 1 failed"
    assert lines[3].split() == ["trial", "val/loss", "optim.lr", "method.rank"]
    # options of the space that were not given come first, and stage.prompts=[] is for the search alone
    assert lines[-2] == (
        "fulgurite train stage=sft +sweep=sft_lora method=lora seed=3 optim.lr=0.001 method.rank=3"
    )
    assert f"trial 2 is in {tmp_path / '2'}" in lines[-1]


def test_text_without_a_complete_trial_is_the_count(tmp_path: Path) -> None:
    text = format_result(build_study("boom"), MINIMIZE, tmp_path, [], "")
    assert text == "\none: 0 trials complete, 0 ended early, 1 failed"


def test_trial_that_goes_on_keeps_its_folder() -> None:
    again = SimpleNamespace(number=7, user_attrs={"folder": "2"})
    assert find_run_folder(again, Path("runs")) == Path("runs/2")
    assert find_run_folder(SimpleNamespace(number=7, user_attrs={}), Path("runs")) == Path("runs/7")
