"""`callback=eval`: the numbers of the command, in a run that trains as it would without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.end_to_end.runs import rows, tiny, tiny_experiment, weights

from fulgurite.config.compose import compose
from fulgurite.config.eval_arguments import read
from fulgurite.errors import ConfigError
from fulgurite.evaluate.command import evaluate, load_subject
from fulgurite.evaluate.metrics import find_metrics
from fulgurite.plan.preflight import refuse_impossible

TRAIN = ("optim.lr=1e-2", "trainer.max_steps=3", "trainer.eval_every=2", "trainer.save_every=2", "method.dropout=0.3")
CALLBACK = (
    "callback=[eval]", "callback.eval.every=2", "callback.eval.max_examples=6", "callback.eval.metrics=[exact_match]",
    "callback.eval.reward=['regex:e']", "callback.eval.max_new_tokens=4", "callback.eval.batch_size=4",
    "callback.eval.turns=all",
)
COMMAND = ("max_examples=6", "metrics=exact_match", "reward=regex:e", "max_new_tokens=4", "batch_size=4", "turns=all")


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("watched") / "run", *TRAIN, *CALLBACK)


def select(row: dict[str, Any]) -> dict[str, float]:
    return {name.removeprefix("eval/"): value for name, value in row.items() if name.startswith("eval/")}


def test_numbers_are_those_of_the_command_at_that_step(watched: Path) -> None:
    logged = {row["step"]: select(row) for row in rows(watched) if select(row)}
    assert [*logged] == [2, 3]  # every two steps, and the last one
    for step, numbers in logged.items():
        request = read([f"run={watched}", f"checkpoint=step-{step}", *COMMAND])
        found = evaluate(load_subject(request), request.config, find_metrics(["exact_match"]), request.allowed)
        assert found.numbers == numbers


def test_a_run_computes_the_same_without_it(watched: Path, tmp_path: Path) -> None:
    """With dropout: the random numbers of training are not used up."""
    bare = tiny(tmp_path / "bare", *TRAIN, "callback=none")
    assert [row for row in rows(watched) if not select(row)] == rows(bare)
    mine, theirs = weights(watched), weights(bare)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_a_policy_is_measured_by_its_own_reward(grpo: Path, tmp_path: Path) -> None:
    words = ("stage=grpo", "stage.reward=[regex:e]", "stage.max_new_tokens=4", "stage.num_generations=2")
    more = ("trainer.max_steps=1", "data.max_samples=8", "callback=[eval]", "callback.eval.max_examples=2")
    folder = tiny(tmp_path / "run", *words, *more, "callback.eval.max_new_tokens=4")
    (found,) = [select(row) for row in rows(folder) if select(row)]
    assert found.keys() == {"reward/regex:e", "answer_length", "cut"}


@pytest.mark.parametrize(("words", "sentence"), [
    (["trainer.devices=2", "strategy=ddp", "trainer.accelerator=cpu"], "callback=eval works in one process"),
    (["stage=rm", "data=guide_preference", "callback.eval.metrics=[bleu]"], "does not write"),
])
def test_a_run_that_cannot_be_evaluated_is_refused(words: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        refuse_impossible(compose(["callback=[eval]", *words]).run)


@pytest.mark.parametrize(("words", "sentence"), [
    (["data.val_fraction=0", "data=guide_preference", "stage=dpo"], "this run has none"),
    (["callback.eval.metrics=[blue]"], "There is no metric blue"),
])
def test_wrong_words_are_refused_before_the_first_step(tmp_path: Path, words: list[str], sentence: str) -> None:
    experiment = tiny_experiment(tmp_path / "run", "callback=[eval]", *words)
    with pytest.raises(ConfigError, match=sentence):
        assert experiment.callbacks


def test_every_is_that_of_the_validation_if_it_is_empty(tmp_path: Path) -> None:
    experiment = tiny_experiment(tmp_path / "run", "callback=[eval]", "trainer.eval_every=3")
    (made,) = [c for c in experiment.callbacks.every if type(c).__name__ == "PeriodicEvaluation"]
    assert vars(made)["_every"] == 3
