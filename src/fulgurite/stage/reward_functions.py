"""Rewards: a number for each answer, from a built-in rule, a Python function, an entry point, or a trained reward
model.

TRL hands its reward functions `prompts`, `completions` and the columns by name; ours get `prompts`, `answers` and
the columns. No torch here: what is wrong with a reward is said before a model is loaded.
"""

from __future__ import annotations

import importlib.util
import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

from fulgurite.errors import ConfigError, RequestError, suggest_similar
from fulgurite.foreign_code import allow_interrupt, run_foreign

GROUP = "fulgurite.rewards"
"""The entry-point group under which a package offers its reward functions."""
LARGEST = 1e15
"""No reward may be larger in size: its square must fit into float32, in which advantages are computed."""
FORM = "(prompts, answers, **columns)"
"""How a reward function is declared; it is called with keywords, and returns a list with a number for each answer."""
WITHIN = f"rewards must lie between -{LARGEST:g} and {LARGEST:g}"


@dataclass(slots=True)
class Answered:
    """Answers, one an entry in each list: the last question's text, the answer's text and length in tokens, whether
    it ended by itself, where its prompt stands, and the data set's columns (`messages` is the whole conversation,
    `tools` the functions that may be
    called in it, if there are any)."""

    prompts: list[str]
    answers: list[str]
    lengths: list[int]
    stopped: list[bool]
    places: list[str]
    columns: dict[str, list[Any]] = field(default_factory=dict)


class Reward(Protocol):
    """What gives answers their numbers. `name` is what it was asked for by."""

    name: str

    def __call__(self, answered: Answered) -> Sequence[float]:
        """A number for each answer."""


@dataclass(slots=True)
class RuleReward:
    """A rule that looks at one answer at a time: `rule(answered, i, argument)`."""

    name: str
    rule: Callable[[Answered, int, str], float]
    argument: str

    def __call__(self, answered: Answered) -> list[float]:
        """A number for each answer."""
        return [self.rule(answered, i, self.argument) for i in range(len(answered.answers))]


@dataclass(slots=True)
class FunctionReward:
    """Somebody's function `(prompts, answers, **columns) -> list of numbers`."""

    name: str
    function: Callable[..., Sequence[float]]

    def __call__(self, answered: Answered) -> Sequence[float]:
        """A number for each answer."""
        return self.function(prompts=answered.prompts, answers=answered.answers, **answered.columns)


@dataclass(slots=True)
class ModelReward:
    """A reward model, by the folder of its run; `score` is put in once models may be loaded."""

    name: str
    score: Callable[[Answered], Sequence[float]] | None = None

    def __call__(self, answered: Answered) -> Sequence[float]:
        """A number for each answer."""
        if self.score is None:
            raise ConfigError(f"stage.reward={self.name} was not loaded.")
        return self.score(answered)


def match_regex(answered: Answered, i: int, argument: str) -> float:
    """1 where the pattern is found in the answer, else 0."""
    return float(re.search(argument, answered.answers[i], re.DOTALL) is not None)


def count(answered: Answered, i: int, argument: str) -> float:
    """How many times the text stands in the answer."""
    return float(answered.answers[i].count(argument))


def compare_length(answered: Answered, i: int, argument: str) -> float:
    """1 where the answer has so many tokens, less by the share it is off, not below 0."""
    return max(0.0, 1.0 - abs(answered.lengths[i] - int(argument)) / int(argument))


def match(answered: Answered, i: int, argument: str) -> float:
    """1 where the answer is what the column holds, but for blanks around it."""
    return float(answered.answers[i].strip() == _get_text(answered, i, argument))


def find_column_text(answered: Answered, i: int, argument: str) -> float:
    """1 where the answer contains what the column holds."""
    return float(_get_text(answered, i, argument) in answered.answers[i])


def _get_text(answered: Answered, i: int, column: str) -> str:
    if column not in answered.columns:
        raise KeyError(f"the data have no column {column}.{suggest_similar(column, answered.columns)}")
    found = answered.columns[column][i]
    if found is None or not str(found).strip():
        raise ValueError(f"column {column} is empty")
    return str(found).strip()


RULES: dict[str, Callable[[Answered, int, str], float]] = {
    "regex": match_regex, "count": count, "length": compare_length, "match": match, "contains": find_column_text,
}


def resolve(word: str) -> Reward:
    """The reward that a word of `stage.reward` names. Raises ConfigError with the remedy."""
    head, colon, rest = word.partition(":")
    if colon and head in RULES:
        return _build_rule(word, head, rest)
    path, _, name = word.rpartition(":")
    if path.endswith(".py"):
        return FunctionReward(word, check_signature(_load_function(Path(path), name, word), word))
    offered = {entry.name: entry for entry in entry_points(group=GROUP)}
    if word in offered:
        with run_foreign(lambda why: ConfigError(f"stage.reward={word} cannot be loaded: {why}.")):
            function = offered[word].load()
        return FunctionReward(word, check_signature(function, word))
    folder = Path(word).expanduser()
    if folder.is_dir():
        if not (folder / "config.yaml").is_file() or not (folder / "checkpoints").is_dir():
            raise ConfigError(
                f"stage.reward={word} is a folder, but no run's: it has no config.yaml with checkpoints; give an rm "
                f"run."
            )
        return ModelReward(word)
    raise ConfigError(
        f"stage.reward={word} is no rule, no file's function and no installed "
        f"reward.{suggest_similar(word, [*RULES, *offered])} "
        f"Write {', '.join(f'{r}:...' for r in RULES)}, path.py:function, or the folder of an rm run."
    )


def shorten_names(words: Iterable[str]) -> dict[str, str]:
    """What each reward is called in metrics: a file's or a run's own name without its folder, where that is not
    another's too."""
    short = {
        word: word.rpartition("/")[2] if Path(word.rpartition(":")[0] or word).is_absolute() else word for word in words
    }
    taken = list(short.values())
    return {word: name if taken.count(name) == 1 else word for word, name in short.items()}


def _build_rule(word: str, head: str, argument: str) -> Reward:
    if not argument:
        raise ConfigError(f"stage.reward={word} has nothing after the colon; write {head}:<value>.")
    if head == "length" and not (argument.isdecimal() and int(argument) > 0):
        raise ConfigError(f"stage.reward={word}: a whole number above 0 is due, such as length:50.")
    if head == "regex":
        try:
            re.compile(argument)
        except re.error as error:
            raise ConfigError(f"stage.reward={word} is no regular expression: {error}.") from error
    return RuleReward(word, RULES[head], argument)


def check_columns(rewards: Sequence[Reward], names: Sequence[str]) -> None:
    """Raise ConfigError, before an answer is drawn, where a reward wants a column that is not there, or would be
    handed one twice."""
    for reward in rewards:
        if isinstance(reward, FunctionReward) and (taken := sorted({"prompts", "answers", "messages"} & set(names))):
            raise ConfigError(
                f"stage.reward={reward.name}: the data have a column {taken[0]}, and a reward function gets "
                f"{taken[0]} of ours under that "
                "name; rename the column in the file."
            )
        if isinstance(reward, RuleReward) and reward.rule in (match, find_column_text) and reward.argument not in names:
            there = ", ".join(names) or "none"
            raise ConfigError(
                f"stage.reward={reward.name}: the data have no column "
                f"{reward.argument}.{suggest_similar(reward.argument, names)} "
                f"There are: {there}."
            )


def check_signature(function: Callable[..., Any], word: str) -> Callable[..., Any]:
    """Returns the function if it can be called with the keywords `prompts`, `answers` and more.

    Raises ConfigError otherwise: without `**columns` a function would fail at the first rollout, minutes later.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some functions of C have no signature
        return function
    named = [name for name, p in signature.parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    # parameters beside the two may be columns of the data, of which nothing is known yet
    keywords = dict.fromkeys(["prompts", "answers", *named, "another_column"])
    try:
        signature.bind(**keywords)
        fits = not named or "answers" in named
    except TypeError:
        fits = False
    if not fits:
        raise ConfigError(
            "stage.reward={word}: the function is declared as {found}; declare it as {expected} and return a list "
            "with a number for each answer.",
            word=word, found=str(signature), expected=FORM,
        )
    return function


def _load_function(path: Path, name: str, word: str) -> Callable[..., Sequence[float]]:
    if not path.is_file():
        raise ConfigError(f"stage.reward={word}: there is no file {path}.")
    spec = importlib.util.spec_from_file_location(f"fulgurite_reward_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"stage.reward={word}: {path} cannot be read as Python.")
    module = importlib.util.module_from_spec(spec)
    with run_foreign(lambda why: ConfigError(f"stage.reward={word}: {path} cannot be imported: {why}.")):
        spec.loader.exec_module(module)
    found: Any = getattr(module, name, None)
    if not callable(found):
        raise ConfigError(f"stage.reward={word}: {path} has no function {name}.{suggest_similar(name, vars(module))}")
    return found  # type: ignore[no-any-return]


def compute_rewards(
    rewards: Sequence[Reward], weights: Sequence[float], answered: Answered
) -> tuple[list[float], dict[str, list[float]]]:
    """The weighted sum for each answer, and each reward's own numbers. Raises RequestError where one gives no good
    numbers."""
    each = {reward.name: _read_numbers(reward, answered) for reward in rewards}
    total = [
        sum(w * each[r.name][i] for r, w in zip(rewards, weights, strict=True)) for i in range(len(answered.answers))
    ]
    for i, x in enumerate(total):
        if not abs(x) <= LARGEST:
            raise RequestError(
                f"stage.reward_weights={list(weights)} makes a reward of {x:g} for {_show(answered, i)}; {WITHIN}."
            )
    return total, each


def _read_numbers(reward: Reward, answered: Answered) -> list[float]:
    where = f"stage.reward={reward.name}"
    due = len(answered.answers)
    on = f"on {due} answers to the prompts of {answered.places[0]} and on" if answered.places else f"on {due} answers"

    def refuse(why: str) -> RequestError:
        return RequestError(f"{where} failed {on}: {why}; the last checkpoint is whole.")

    with run_foreign(refuse), allow_interrupt():
        given = reward(answered)
        _refuse_shape(where, given)
        found = list(given)
    if len(found) != due:
        raise RequestError(f"{where} gave {len(found)} numbers for {due} answers; it must give one for each.")
    return [_read_number(where, x, answered, i) for i, x in enumerate(found)]


def _refuse_shape(where: str, given: Any) -> None:
    """Raise RequestError unless `given` is a list, a tuple, an array or a tensor: one number for each answer, in
    their order."""
    kind = type(given).__name__
    if isinstance(given, Mapping | Set | str | bytes) or not (hasattr(given, "__len__") and hasattr(given, "__iter__")):
        given_words = "nothing (None)" if given is None else f"a value of type {kind}"
        raise RequestError(f"{where} returned {given_words}; it must return a list with a number for each answer.")


def _read_number(where: str, given: Any, answered: Answered, i: int) -> float:
    """The number as a float. Raises RequestError unless it is one, finite, and small enough to be averaged and
    squared in float32."""
    if given is None or isinstance(given, str | bytes):
        raise RequestError(f"{where} gave {_shorten(given)} for {_show(answered, i)}; it must give a number.")
    what = f"{where} gave a value of type {type(given).__name__} for {_show(answered, i)}, which is no number"
    with run_foreign(lambda why: RequestError(f"{what}: {why}.")):
        x = float(given)
    if not math.isfinite(x):
        raise RequestError(f"{where} gave {x} for {_show(answered, i)}; it must give a finite number.")
    if abs(x) > LARGEST:
        raise RequestError(f"{where} gave {x:g} for {_show(answered, i)}; {WITHIN}.")
    return x


def _show(answered: Answered, i: int) -> str:
    return f"the answer {' '.join(answered.answers[i].split())[:60]!r} to {answered.places[i]}"


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
