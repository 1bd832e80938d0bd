"""The metric `tool_calls`: the calls of an answer beside those of the reference answer."""

from __future__ import annotations

import contextlib
import json
import operator
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from fulgurite.evaluate.questions import HeldOutQuestion
from fulgurite.model.generate import Answer

Calls = Sequence[Mapping[str, Any]]


def score_answer_calls(answer: Answer, question: HeldOutQuestion) -> dict[str, float]:
    """Returns the numbers of one answer; see score_calls."""
    return score_calls(answer.calls, question.expected.tool_calls if question.expected is not None else ())


def score_calls(made: Calls, expected: Calls) -> dict[str, float]:
    """Compares the calls of an answer with the expected ones, in any order.

    Each expected call is paired with at most one made call: first those that are equal, then those of one function,
    then those with equal arguments, then the rest in order. If calls are expected, these are shares of the expected
    calls: `call_name`, paired with a call of the same function; `call_arguments`, paired with one whose arguments are
    equal; `call_correct`, both; `calls_missed`, paired with none. `calls_needless` is 1 if the answer makes more calls
    than expected, else 0.

    Arguments are equal if they are equal as JSON: the order of keys does not count, 1 equals 1.0 and differs from true
    and from "1"; a key with null differs from no key. Texts are compared in Unicode's form NFC, without blanks around
    them. Arguments as JSON text count as what they contain.
    """
    made_keys, expected_keys = [_make_key(call) for call in made], [_make_key(call) for call in expected]
    pairs = _pair(made_keys, expected_keys)
    found = {"calls_needless": float(len(made) > len(expected))}
    if not expected:
        return found
    names = [made_keys[m][0] == expected_keys[e][0] for m, e in pairs]
    arguments = [made_keys[m][1] == expected_keys[e][1] for m, e in pairs]
    correct = [name and given for name, given in zip(names, arguments, strict=True)]
    return {
        "call_name": sum(names) / len(expected), "call_arguments": sum(arguments) / len(expected),
        "call_correct": sum(correct) / len(expected), "calls_missed": 1 - len(pairs) / len(expected), **found,
    }


def _pair(made: list[tuple[str, Any]], expected: list[tuple[str, Any]]) -> list[tuple[int, int]]:
    """Returns the positions of the paired calls."""
    pairs: list[tuple[int, int]] = []
    left_made, left = list(range(len(made))), list(range(len(expected)))
    # From the strictest likeness to none: a loose pair must not take the partner of an exact one.
    for is_alike in (operator.eq, _has_same_name, _has_same_arguments, lambda made, expected: True):
        for e in list(left):
            m = next((m for m in left_made if is_alike(made[m], expected[e])), None)
            if m is not None:
                pairs.append((m, e))
                left_made.remove(m)
                left.remove(e)
    return pairs


def _has_same_name(made: tuple[str, Any], expected: tuple[str, Any]) -> bool:
    return made[0] == expected[0]


def _has_same_arguments(made: tuple[str, Any], expected: tuple[str, Any]) -> bool:
    return bool(made[1] == expected[1])


def _make_key(call: Mapping[str, Any]) -> tuple[str, Any]:
    function = call["function"]
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        with contextlib.suppress(ValueError, RecursionError):  # not JSON: a text
            arguments = json.loads(arguments)
    return str(function["name"]).strip(), _normalize(arguments if arguments is not None else {})


def _normalize(value: Any) -> Any:
    """Returns a value that is equal for equal JSON; with the kind, because Python's True equals 1."""
    if isinstance(value, Mapping):
        return "object", {unicodedata.normalize("NFC", str(key)): _normalize(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return "list", [_normalize(item) for item in value]
    if isinstance(value, str):
        return "text", unicodedata.normalize("NFC", value).strip()
    if isinstance(value, bool):
        return "boolean", value
    return ("null", None) if value is None else ("number", value)
