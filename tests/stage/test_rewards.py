"""Rewards: rules by hand, functions by file and by entry point, weights, and one sentence for whatever is wrong with one."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import pytest

from fulgurite.check import checked_source
from fulgurite.compose import compose
from fulgurite.errors import ConfigError, RequestError
from fulgurite.stage import rewards
from fulgurite.stage.rewards import RULES, Answered, resolve, scored

FUNCTIONS = """
def good(prompts, answers, **columns):
    return [len(a) + len(p) for p, a in zip(prompts, answers)]
def right(answers, result, **rest):
    return [a == str(r) for a, r in zip(answers, result)]
def short(answers, **rest):
    return [1.0]
def nan(answers, **rest):
    return [0.0, float("nan"), 0.0]
def words(answers, **rest):
    return ["many"] * len(answers)
def fails(answers, **rest):
    raise KeyError("price")
something = 3
"""


def answered() -> Answered:
    return Answered(
        ["Q1", "Q2", "Q3"], ["yes, 5", "no", " 7 "], [4, 10, 1], [True, True, False], ["f:1", "f:2", "f:3"],
        {"result": [5, 6, 7], "gap": ["x", None, "y"]},
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(FUNCTIONS)
    return tmp_path / "mine.py"


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("regex:^yes", [1, 0, 0]), ("regex:[0-9]", [1, 0, 1]), ("count:e", [1, 0, 0]), ("length:4", [1, 0, 0.25]),
        ("length:10", [0.4, 1, 0.1]), ("match:result", [0, 0, 1]), ("contains:result", [1, 0, 1]),
    ],
)
def test_rules_by_hand(word: str, expected: list[float]) -> None:
    assert list(resolve(word)(answered())) == pytest.approx(expected)


def test_there_are_five_rules() -> None:
    assert sorted(RULES) == ["contains", "count", "length", "match", "regex"]


def test_functions_of_a_file_get_prompts_answers_and_columns(file: Path) -> None:
    assert list(resolve(f"{file}:good")(answered())) == [8, 4, 5]
    assert list(resolve(f"{file}:right")(answered())) == [False, False, False]


def test_the_sum_is_weighted(file: Path) -> None:
    total, each = scored([resolve("regex:yes"), resolve(f"{file}:good")], [10.0, 0.5], answered())
    assert total == [14, 2, 2.5]
    assert each == {"regex:yes": [1, 0, 0], f"{file}:good": [8, 4, 5]}


def test_a_package_offers_a_reward_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = importlib.metadata.EntryPoint("loud", "builtins:len", rewards.GROUP)
    broken = importlib.metadata.EntryPoint("gone", "not_there:f", rewards.GROUP)

    def offered(group: str) -> Any:
        assert group == "fulgurite.rewards"
        return [entry, broken]

    monkeypatch.setattr(rewards, "entry_points", offered)
    found = resolve("loud")
    assert isinstance(found, rewards.Function)
    assert found.function is len
    with pytest.raises(ConfigError, match=r"stage\.reward=gone cannot be loaded: ModuleNotFoundError"):
        resolve("gone")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("regex:(", "is no regular expression"), ("length:-3", "a whole number above 0 is due"), ("count:", "has nothing after the colon"),
        ("regx:a", r"is no rule.*Did you mean regex"), ("{file}:goood", "has no function goood. Did you mean good"),
        ("{file}:something", "has no function something"), ("nowhere.py:f", "there is no file nowhere.py"),
        ("{folder}", "is a folder, but no run's"), ("{broken}:f", "cannot be imported: ZeroDivisionError"),
    ],
)
def test_a_word_that_names_no_reward_is_one_sentence(word: str, said: str, file: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("1 / 0")
    with pytest.raises(ConfigError, match=said):
        resolve(word.format(file=file, folder=tmp_path, broken=tmp_path / "broken.py"))


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("{file}:short", "gave 1 numbers for 3 answers"), ("{file}:nan", "gave nan for the answer 'no' to f:2"),
        ("{file}:fails", r"failed on 3 answers to the prompts of f:1 and on: KeyError: 'price'"), ("{file}:words", "ValueError"),
        ("match:price", "the data have no column price"), ("match:gap", "column gap is empty"),
    ],
)
def test_a_reward_that_gives_no_good_numbers_is_one_sentence(word: str, said: str, file: Path) -> None:
    with pytest.raises(RequestError, match=said):
        scored([resolve(word.format(file=file))], [1.0], answered())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], r"stage=grpo needs stage\.reward="), (["stage.reward=[a]"], "is no rule"),
        (["stage.reward=['count:a','count:a']"], "names a reward twice"),
        (["stage.reward=['count:a']", "stage.reward_weights=[1,2]"], "has 2 numbers and stage.reward 1"),
        (["stage.reward=['count:a']", "trainer=ddp_cpu"], "runs in one process; take trainer=auto"),
        (["stage.reward=['count:a']", "method.dropout=0.1"], r"method\.dropout=0\.1 blurs; set it to 0"),
        (["stage.reward=['count:a']", "optim=schedule_free"], r"optim=schedule_free from their average; take optim=adamw"),
        (["stage.reward=['count:a']", "trainer.gradient_checkpointing=true"], "gradient_checkpointing does nothing; leave it out"),
        (["stage.reward=['count:a']", "data.packing=best_fit"], r"data\.packing=best_fit joins them"),
        (["stage.reward=['count:a']", "data.too_long=truncate"], "would cut off the opening of the answer"),
        (["stage.reward=['count:a']", "data.mask=all"], r"data\.mask=all has no meaning"),
        (["stage.reward=['count:a']", "trainer.batch_size=1", "stage.minibatches=9"], "cannot be cut from 8 answers"),
    ],
)
def test_what_cannot_go_together_is_refused_before_a_model_is_loaded(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        checked_source(compose(["stage=grpo", "model=tiny", *words]))


def test_columns_are_looked_for_before_an_answer_is_drawn(tmp_path: Path) -> None:
    (tmp_path / "r.py").write_text("def score(prompts, answers, **columns):\n    return [0.0 for _ in answers]\n")
    rule, function = resolve("match:answer"), resolve(f"{tmp_path / 'r.py'}:score")
    rewards.check_columns([rule, function], ["answer", "kind"])
    with pytest.raises(ConfigError, match=r"the data have no column answer\. Did you mean answers\? There are: answers\."):
        rewards.check_columns([rule], ["answers"])
    with pytest.raises(ConfigError, match=r"the data have a column answers, and a reward function gets answers of ours"):
        rewards.check_columns([function], ["answers"])
    with pytest.raises(ConfigError, match=r"the data have a column messages, and a reward function gets messages of ours"):
        rewards.check_columns([rule, function], ["answer", "messages"])
    rewards.check_columns([rule], ["answer", "messages"])
