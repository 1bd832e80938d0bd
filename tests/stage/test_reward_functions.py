"""Rewards: rules by hand, functions by file and by entry point, weights, and one sentence for each error."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path
from typing import Any

import pytest

from fulgurite.errors import ConfigError, Interrupted, RequestError
from fulgurite.stage import reward_functions as rewards
from fulgurite.stage.reward_functions import RULES, Answered, compute_rewards, resolve, shorten_names

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
    total, each = compute_rewards([resolve("regex:yes"), resolve(f"{file}:good")], [10.0, 0.5], answered())
    assert total == [14, 2, 2.5]
    assert each == {"regex:yes": [1, 0, 0], f"{file}:good": [8, 4, 5]}


def test_a_package_offers_a_reward_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = importlib.metadata.EntryPoint("loud", "builtins:dict", rewards.GROUP)
    broken = importlib.metadata.EntryPoint("gone", "not_there:f", rewards.GROUP)

    def offered(group: str) -> Any:
        assert group == "fulgurite.rewards"
        return [entry, broken]

    monkeypatch.setattr(rewards, "entry_points", offered)
    found = resolve("loud")
    assert isinstance(found, rewards.FunctionReward)
    assert found.function is dict
    with pytest.raises(ConfigError, match=r"stage\.reward=gone cannot be loaded: ModuleNotFoundError"):
        resolve("gone")


@pytest.mark.parametrize(
    ("declared", "fits"),
    [
        ("prompts, answers, **columns", True), ("answers, **columns", True), ("prompts, answers, price, **rest", True),
        ("*, answers, price=1.0, **rest", True), ("**everything", True), ("prompt, answer, **record", False),
        ("prompts, answers", False), ("answers, /, **columns", False), ("prompts, **columns", False),
    ],
)
def test_a_function_is_declared_in_the_documented_form(declared: str, fits: bool, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(f"def score({declared}):\n    return []\n")
    if fits:
        assert isinstance(resolve(f"{file}:score"), rewards.FunctionReward)
        return
    said = f"the function is declared as ({declared}); declare it as (prompts, answers, **columns) and return a list"
    with pytest.raises(ConfigError, match=re.escape(said)):
        resolve(f"{file}:score")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("regex:(", "is not a regular expression"), ("length:-3", "expected a whole number above 0"),
        ("count:", "has nothing after the colon"),
        ("regx:a", r"is no rule.*Did you mean regex"), ("{file}:goood", "has no function goood. Did you mean good"),
        ("{file}:something", "has no function something"), ("nowhere.py:f", "there is no file nowhere.py"),
        ("{folder}", "is a folder, but not that of a run"), ("{broken}:f", "cannot be imported: ZeroDivisionError"),
    ],
)
def test_a_word_that_names_no_reward_is_one_sentence(word: str, said: str, file: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("1 / 0")
    with pytest.raises(ConfigError, match=said):
        resolve(word.format(file=file, folder=tmp_path, broken=tmp_path / "broken.py"))


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("{file}:short", "returned 1 numbers for 3 answers"), ("{file}:nan", "gave nan for the answer 'no' to f:2"),
        ("{file}:fails", r"failed on 3 answers to the prompts of f:1 and later ones: KeyError: 'price'"),
        ("{file}:words", "gave 'many' for the answer 'yes, 5' to f:1; it must give a number"),
        ("match:price", "the data have no column price"), ("match:gap", "column gap is empty"),
    ],
)
def test_a_reward_that_gives_no_good_numbers_is_one_sentence(word: str, said: str, file: Path) -> None:
    with pytest.raises(RequestError, match=said):
        compute_rewards([resolve(word.format(file=file))], [1.0], answered())


ODD = {
    "{str(i): 1.0 for i in range(3)}": "returned a value of type dict; it must return a list",
    "{1.0, 2.0, 3.0}": "returned a value of type set",
    "(x for x in (1.0, 2.0, 3.0))": "returned a value of type generator",
    "'010'": "returned a value of type str",
    "None": r"returned nothing \(None\)",
    "7": "returned a value of type int",
    "[1.0, None, 2.0]": "gave None for the answer 'no' to f:2",
    "[1.0, '2', 3.0]": "gave '2' for the answer 'no' to f:2",
    "[1.0, [2.0], 3.0]": "gave a value of type list for the answer 'no' to f:2, which is not a number: TypeError",
    "[1.0, 1j, 3.0]": "gave a value of type complex for the answer 'no' to f:2",
    "[0.0, 1e308, 0.0]": "gave 1e\\+308 for the answer 'no' to f:2; rewards must be between -1e\\+15 and 1e\\+15",
    "[0.0, -(10 ** 400), 0.0]":
        "gave a value of type int for the answer 'no' to f:2, which is not a number: OverflowError",
    "[1.0, float('-inf'), 2.0]": "gave -inf for",
    "[1.0] * 4": "returned 4 numbers for 3 answers",
    "sys.exit(0)": r"failed on 3 answers .*: it called sys.exit\(0\)",
    "sys.exit('done')": r"it called sys.exit\('done'\)",
    "deep()": "RecursionError",
    "next(GENERATOR)": "GeneratorExit",
}


@pytest.mark.parametrize("returned", ODD)
def test_an_odd_return_value_is_one_sentence(returned: str, tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(
        "import sys\ndef deep():\n    return deep()\n"
        "def gone():\n    raise GeneratorExit\n    yield\nGENERATOR = gone()\n"
        f"def f(**given):\n    return {returned}\n"
    )
    with pytest.raises(RequestError, match=ODD[returned]) as caught:
        compute_rewards([resolve(f"{tmp_path / 'odd.py'}:f")], [1.0], answered())
    assert "\n" not in str(caught.value)


def test_arrays_and_tensors_are_numbers_too(tmp_path: Path) -> None:
    (tmp_path / "arrays.py").write_text(
        "import numpy as np, torch\n"
        "def array(**given):\n    return np.array([1, 2, 3], dtype=np.float16)\n"
        "def tensors(**given):\n    return torch.tensor([1.0, 2.0, 3.0])\n"
        "def flags(**given):\n    return (True, False, np.bool_(True))\n"
    )
    found = [
        compute_rewards([resolve(f"{tmp_path / 'arrays.py'}:{name}")], [1.0], answered())[0]
        for name in ("array", "tensors", "flags")
    ]
    assert found == [[1, 2, 3], [1, 2, 3], [1, 0, 1]]


def test_weights_that_make_a_sum_too_large_are_one_sentence() -> None:
    with pytest.raises(
        RequestError,
        match=r"stage\.reward_weights=\[1e\+300\] makes a reward of 1e\+300 for the answer 'yes, 5' to f:1",
    ):
        compute_rewards([resolve("regex:yes")], [1e300], answered())


@pytest.mark.parametrize("raised", ["KeyboardInterrupt", "Interrupted('second', 15)"])
def test_an_interrupt_inside_a_reward_stays_one(raised: str, tmp_path: Path) -> None:
    (tmp_path / "f.py").write_text(
        "from fulgurite.errors import Interrupted\n"
        f"def f(**given):\n    try:\n        raise {raised}\n    except Exception:\n        return [0.0]\n"
    )
    with pytest.raises(Interrupted) as caught:
        compute_rewards([resolve(f"{tmp_path / 'f.py'}:f")], [1.0], answered())
    assert caught.value.exit_status == (143 if "second" in raised else 130)


def test_a_file_that_leaves_while_it_is_imported_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(0)\n")
    with pytest.raises(ConfigError, match=r"leaves.py cannot be imported: it called sys.exit\(0\)"):
        resolve(f"{tmp_path / 'leaves.py'}:f")


def test_columns_are_looked_for_before_an_answer_is_drawn(tmp_path: Path) -> None:
    (tmp_path / "r.py").write_text("def score(prompts, answers, **columns):\n    return [0.0 for _ in answers]\n")
    rule, function = resolve("match:answer"), resolve(f"{tmp_path / 'r.py'}:score")
    rewards.check_columns([rule, function], ["answer", "kind"])
    with pytest.raises(
        ConfigError, match=r"the data have no column answer\. Did you mean answers\? Columns: \[answers\]\."
    ):
        rewards.check_columns([rule], ["answers"])
    with pytest.raises(
        ConfigError, match=r"the data have a column answers, and a reward function gets its own argument of that name"
    ):
        rewards.check_columns([function], ["answers"])
    with pytest.raises(
        ConfigError, match=r"the data have a column messages, and a reward function gets its own argument of that name"
    ):
        rewards.check_columns([rule, function], ["answer", "messages"])
    rewards.check_columns([rule], ["answer", "messages"])


def test_metrics_call_a_reward_by_the_name_of_its_file() -> None:
    words = ["/a/b/reward.py:score", "length:50", "regex:/x/", "/runs/rm"]
    assert shorten_names(words) == {words[0]: "reward.py:score", words[1]: words[1], words[2]: words[2], words[3]: "rm"}
    twice = ["/a/reward.py:score", "/b/reward.py:score"]
    assert shorten_names(twice) == {word: word for word in twice}


PAGE = Path(__file__).parents[2] / "docs" / "rewards.md"


def test_the_page_of_rewards_has_a_function_that_works(tmp_path: Path) -> None:
    [source] = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.S | re.M)
    (tmp_path / "my_reward.py").write_text(source, encoding="utf-8")
    reward = resolve(f"{tmp_path}/my_reward.py:score")
    asked = Answered(["2 + 2?"] * 3, ["4", "It is 4.", "5"], [1, 3, 1], [True] * 3, ["f:1"] * 3, {"answer": ["4"] * 3})
    total, _ = compute_rewards([reward], [1.0], asked)
    assert total == [1.5, 0.0, 0.5]
