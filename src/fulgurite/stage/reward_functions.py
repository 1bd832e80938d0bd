"""Rewards: a number for each answer, from a built-in rule, a Python function, an entry point, or a reward model.

TRL calls its reward functions with `prompts`, `completions` and the columns by name; ours get `prompts`, `answers`
and the columns. No torch here: a wrong reward is refused before a model is loaded.
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
from fulgurite.language.library_errors import translate_error
from fulgurite.language.message import UserMessage, message

GROUP = "fulgurite.rewards"
"""The entry-point group under which a package offers its reward functions."""
LARGEST = 1e15
"""Maximum absolute value of a reward: its square must fit into float32, in which advantages are computed."""
FORM = "(prompts, answers, **columns)"
"""How a reward function is declared; it is called with keywords, and returns a list with a number for each answer."""


@dataclass(slots=True)
class Answered:
    """Answers, one entry of each list: the text of the last question, the text and the length in tokens of the answer,
    whether it ended by itself, the place of its prompt in the data, and the data set's columns (`messages` is the whole
    conversation, `tools` the functions that may be called in it, if there are any)."""

    prompts: list[str]
    answers: list[str]
    lengths: list[int]
    stopped: list[bool]
    places: list[str]
    columns: dict[str, list[Any]] = field(default_factory=dict)


class Reward(Protocol):
    """Gives answers their rewards. `name` is its word in `stage.reward`."""

    name: str

    def __call__(self, answered: Answered) -> Sequence[float]:
        """Returns a number for each answer."""


@dataclass(slots=True)
class RuleReward:
    """A rule that looks at one answer at a time: `rule(answered, i, argument)`."""

    name: str
    rule: Callable[[Answered, int, str], float]
    argument: str

    def __call__(self, answered: Answered) -> list[float]:
        """Returns a number for each answer."""
        return [self.rule(answered, i, self.argument) for i in range(len(answered.answers))]


@dataclass(slots=True)
class FunctionReward:
    """A function `(prompts, answers, **columns) -> list of numbers`."""

    name: str
    function: Callable[..., Sequence[float]]

    def __call__(self, answered: Answered) -> Sequence[float]:
        """Returns a number for each answer."""
        return self.function(prompts=answered.prompts, answers=answered.answers, **answered.columns)


@dataclass(slots=True)
class ModelReward:
    """A reward model, by the folder of its run; `score` is set when models may be loaded."""

    name: str
    score: Callable[[Answered], Sequence[float]] | None = None

    def __call__(self, answered: Answered) -> Sequence[float]:
        """Returns a number for each answer."""
        if self.score is None:
            raise ConfigError("stage.reward={name}: its reward model was not loaded.", name=self.name)
        return self.score(answered)


def match_regex(answered: Answered, i: int, argument: str) -> float:
    """Returns 1 if the pattern is found in the answer, else 0."""
    return float(re.search(argument, answered.answers[i], re.DOTALL) is not None)


def count(answered: Answered, i: int, argument: str) -> float:
    """Returns how many times the text occurs in the answer."""
    return float(answered.answers[i].count(argument))


def compare_length(answered: Answered, i: int, argument: str) -> float:
    """Returns 1 if the answer has the given number of tokens, less in proportion to the difference, not below 0."""
    return max(0.0, 1.0 - abs(answered.lengths[i] - int(argument)) / int(argument))


def match(answered: Answered, i: int, argument: str) -> float:
    """Returns 1 if the answer equals the text of the column, without blanks around it, else 0."""
    return float(answered.answers[i].strip() == _get_text(answered, i, argument))


def find_column_text(answered: Answered, i: int, argument: str) -> float:
    """Returns 1 if the answer contains the text of the column, else 0."""
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
    """Returns the reward that a word of `stage.reward` names. Raises ConfigError with the remedy."""
    head, colon, rest = word.partition(":")
    if colon and head in RULES:
        return _build_rule(word, head, rest)
    path, _, name = word.rpartition(":")
    if path.endswith(".py"):
        return FunctionReward(word, check_signature(_load_function(Path(path), name, word), word))
    offered = {entry.name: entry for entry in entry_points(group=GROUP)}
    if word in offered:
        with run_foreign(lambda why: ConfigError(
            "stage.reward={word} cannot be loaded: {reason}.", word=word, reason=why,
        )):
            function = offered[word].load()
        return FunctionReward(word, check_signature(function, word))
    folder = Path(word).expanduser()
    if folder.is_dir():
        if not (folder / "config.yaml").is_file() or not (folder / "checkpoints").is_dir():
            raise ConfigError(
                "stage.reward={word} is a folder, but not that of a run: it has no config.yaml with checkpoints; give "
                "the folder of an rm run.",
                word=word,
            )
        return ModelReward(word)
    raise ConfigError(
        "stage.reward={word} is no rule, no file's function and no installed reward.{hint} Write {names}, "
        "path.py:function, or the folder of an rm run.",
        word=word, hint=suggest_similar(word, [*RULES, *offered]), names=', '.join(f'{r}:...' for r in RULES),
    )


def shorten_names(words: Iterable[str]) -> dict[str, str]:
    """Returns the name of each reward in metrics: the name of a file or a run without its folder, if that is unique."""
    short = {
        word: word.rpartition("/")[2] if Path(word.rpartition(":")[0] or word).is_absolute() else word for word in words
    }
    taken = list(short.values())
    return {word: name if taken.count(name) == 1 else word for word, name in short.items()}


def _build_rule(word: str, head: str, argument: str) -> Reward:
    if not argument:
        raise ConfigError(
            "stage.reward={word} has nothing after the colon; write {head}:<value>.", word=word, head=head,
        )
    if head == "length" and not (argument.isdecimal() and int(argument) > 0):
        raise ConfigError("stage.reward={word}: expected a whole number above 0, such as length:50.", word=word)
    if head == "regex":
        try:
            re.compile(argument)
        except re.error as error:
            raise ConfigError(
                "stage.reward={word} is not a regular expression: {reason}.", word=word, reason=translate_error(error),
            ) from error
    return RuleReward(word, RULES[head], argument)


def check_columns(rewards: Sequence[Reward], names: Sequence[str]) -> None:
    """Raises ConfigError, before an answer is generated, if a reward needs a column that does not exist, or would get
    one twice."""
    for reward in rewards:
        if isinstance(reward, FunctionReward) and (taken := sorted({"prompts", "answers", "messages"} & set(names))):
            raise ConfigError(
                "stage.reward={name}: the data have a column {column}, and a reward function gets its own argument of "
                "that "
                "name; rename the column in the file.",
                name=reward.name, column=taken[0],
            )
        if isinstance(reward, RuleReward) and reward.rule in (match, find_column_text) and reward.argument not in names:
            raise ConfigError(
                "stage.reward={name}: the data have no column {column}.{hint} Columns: [{columns}].",
                name=reward.name, column=reward.argument, hint=suggest_similar(reward.argument, names),
                columns=", ".join(names),
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
    # further parameters may be columns of the data, which is not read yet
    keywords = dict.fromkeys(["prompts", "answers", *named, "another_column"])
    try:
        signature.bind(**keywords)
        # A function of **columns alone fits; one that names parameters must name the answers.
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
        raise ConfigError("stage.reward={word}: there is no file {path}.", word=word, path=path)
    spec = importlib.util.spec_from_file_location(f"fulgurite_reward_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError("stage.reward={word}: {path} cannot be read as Python.", word=word, path=path)
    module = importlib.util.module_from_spec(spec)
    with run_foreign(lambda why: ConfigError(
        "stage.reward={word}: {path} cannot be imported: {reason}.", word=word, path=path, reason=why,
    )):
        spec.loader.exec_module(module)
    found: Any = getattr(module, name, None)
    if not callable(found):
        raise ConfigError(
            "stage.reward={word}: {path} has no function {name}.{hint}",
            word=word, path=path, name=name, hint=suggest_similar(name, vars(module)),
        )
    return found  # type: ignore[no-any-return]


def compute_rewards(
    rewards: Sequence[Reward], weights: Sequence[float], answered: Answered, in_training: bool = True
) -> tuple[list[float], dict[str, list[float]]]:
    """Returns the weighted sum for each answer, and each reward's own numbers. Raises RequestError if a reward returns
    wrong numbers; in training it names the checkpoint."""
    each = {reward.name: _read_numbers(reward, answered, in_training) for reward in rewards}
    total = [
        sum(w * each[r.name][i] for r, w in zip(rewards, weights, strict=True)) for i in range(len(answered.answers))
    ]
    for i, x in enumerate(total):
        # `not <=` instead of `>`, so that NaN is refused too.
        if not abs(x) <= LARGEST:
            raise RequestError(
                "stage.reward_weights={weights} makes a reward of {given:g} for {answer}; rewards must be between "
                "-{most:g} and {most:g}.",
                weights=list(weights), given=x, answer=_describe_answer(answered, i), most=LARGEST,
            )
    return total, each


def _read_numbers(reward: Reward, answered: Answered, in_training: bool) -> list[float]:
    name, due = reward.name, len(answered.answers)

    def refuse(why: UserMessage) -> RequestError:
        if not in_training:
            return RequestError(
                "The reward {name} failed on {due} answers: {reason}; this evaluation is not kept.",
                name=name, due=due, reason=why,
            )
        if not answered.places:
            return RequestError(
                "stage.reward={name} failed on {due} answers: {reason}; the last checkpoint is complete.",
                name=name, due=due, reason=why,
            )
        return RequestError(
            "stage.reward={name} failed on {due} answers to the prompts of {place} and later ones: {reason}; the last "
            "checkpoint is complete.",
            name=name, due=due, place=answered.places[0], reason=why,
        )

    with run_foreign(refuse), allow_interrupt():
        given = reward(answered)
        _refuse_shape(name, given)
        found = list(given)
    if len(found) != due:
        raise RequestError(
            "stage.reward={name} returned {count} numbers for {due} answers; it must return one for each answer.",
            name=name, count=len(found), due=due,
        )
    return [_read_number(name, x, answered, i) for i, x in enumerate(found)]


def _refuse_shape(name: str, given: Any) -> None:
    """Raises RequestError unless `given` is a list, a tuple, an array or a tensor: one number for each answer, in
    their order."""
    if given is None:
        raise RequestError(
            "stage.reward={name} returned nothing (None); it must return a list with a number for each answer.",
            name=name,
        )
    # A set has no order, a mapping is iterated by its keys, and a text by its characters.
    if isinstance(given, Mapping | Set | str | bytes) or not (hasattr(given, "__len__") and hasattr(given, "__iter__")):
        raise RequestError(
            "stage.reward={name} returned a value of type {type}; it must return a list with a number for each answer.",
            name=name, type=type(given).__name__,
        )


def _read_number(name: str, given: Any, answered: Answered, i: int) -> float:
    """Returns the number as a float. Raises RequestError unless it is one, finite, and small enough to be averaged and
    squared in float32."""
    on = _describe_answer(answered, i)
    if given is None or isinstance(given, str | bytes):
        raise RequestError(
            "stage.reward={name} gave {given} for {answer}; it must give a number.",
            name=name, given=_shorten(given), answer=on,
        )
    with run_foreign(lambda why: RequestError(
        "stage.reward={name} gave a value of type {type} for {answer}, which is not a number: {reason}.",
        name=name, type=type(given).__name__, answer=on, reason=why,
    )):
        x = float(given)
    if not math.isfinite(x):
        raise RequestError(
            "stage.reward={name} gave {given} for {answer}; it must give a finite number.",
            name=name, given=x, answer=on,
        )
    if abs(x) > LARGEST:
        raise RequestError(
            "stage.reward={name} gave {given:g} for {answer}; rewards must be between -{most:g} and {most:g}.",
            name=name, given=x, answer=on, most=LARGEST,
        )
    return x


def _describe_answer(answered: Answered, i: int) -> UserMessage:
    return message(
        "the answer {text!r} to {place}", text=" ".join(answered.answers[i].split())[:60], place=answered.places[i]
    )


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
