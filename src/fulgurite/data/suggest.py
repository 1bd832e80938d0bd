"""Says what records look like that no format reads, and which `data.columns` would read them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import permutations, product
from typing import Any

from fulgurite.data.fields import LONG, kind_of
from fulgurite.errors import nearest

QUESTION = ("instruction", "prompt", "question", "query", "input", "problem", "user", "human", "request", "source", "context", "q")
ANSWER = ("output", "completion", "response", "answer", "answers", "assistant", "gpt", "reply", "solution", "target", "label", "a")
TALK = ("messages", "conversations", "conversation", "chat", "dialog", "dialogue", "turns", "items")
NAMES: dict[str, tuple[str, ...]] = {
    "instruction": QUESTION, "prompt": ("prompt", *QUESTION), "output": ANSWER, "completion": ("completion", *ANSWER),
    "messages": TALK, "text": ("text", "content", "body", "document", "article", "raw_content", "passage", "code"),
    "chosen": ("chosen", "preferred", "better", "winner", "positive", "accepted", "good", "response_chosen"),
    "rejected": ("rejected", "dispreferred", "worse", "loser", "negative", "bad", "response_rejected"),
    "label": ("label", "kto_tag", "good", "is_good", "feedback", "thumbs_up", "correct", "rating"),
}
"""What other data sets call a field of ours, the likeliest name first."""
PAIR = ("prompt", "chosen", "rejected")
FORMS: dict[str, tuple[tuple[str, ...], ...]] = {
    "pt": (("text",),), "rm": (PAIR,), "dpo": (PAIR,), "kto": (("prompt", "completion", "label"), ("messages", "label")),
    "ppo": (("prompt",),), "grpo": (("prompt",),),
}
CHAT: tuple[tuple[str, ...], ...] = (("messages",), ("instruction", "output"))
FEW = 12
"""How many fields of a record are named; and how many columns are tried in every order."""
TRIED = 4


def describe_record(record: Any) -> str:
    """The fields of a record and their kinds, in one line: `{question: text, answer: a number}`."""
    if not isinstance(record, Mapping):
        return kind_of(record)
    parts = [f"{_short(name)}: {_describe(value)}" for name, value in list(record.items())[:FEW]]
    more = f", and {len(record) - FEW} more" if len(record) > FEW else ""
    return "{" + ", ".join(parts) + more + "}"


def _describe(value: Any) -> str:
    if isinstance(value, list) and value:
        inner = value[0]
        if isinstance(inner, Mapping):
            return "a list of {" + ", ".join(_short(name) for name in list(inner)[:FEW]) + "}"
        return f"a list of {kind_of(inner).removeprefix('a ').removeprefix('an ')}"
    return kind_of(value)


def _short(name: Any) -> str:
    text = str(name)
    return text if len(text) <= LONG else f"{text[:LONG]}…"


def suggest_columns(
    records: Sequence[Any], stage: str, reads: Callable[[Any, Mapping[str, str]], bool], guess: bool
) -> dict[str, str] | None:
    """The columns under which most of the records can be read, or None; empty if they can be read under their own names.

    `reads(record, columns)` tries one record. With `guess` the first columns are tried in every order if no name is known.
    """
    objects = [record for record in records if isinstance(record, Mapping)]
    if not objects:
        return None
    names = [str(name) for name in objects[0] if len(str(name)) <= LONG]
    for columns in _candidates(names, FORMS.get(stage, CHAT), guess):
        if 2 * sum(reads(record, columns) for record in objects) > len(objects):
            return {ours: theirs for ours, theirs in columns.items() if ours != theirs}
    return None


def _candidates(names: list[str], forms: Sequence[tuple[str, ...]], guess: bool) -> Iterable[dict[str, str]]:
    """Mappings to try: by the names that other data sets use, by names that are nearly ours, then the first columns in order."""
    for form in forms:
        for chosen in product(*(_likely(field, names) for field in form)):
            if len(set(chosen)) == len(chosen):
                yield dict(zip(form, chosen, strict=True))
    for form in forms if guess else ():
        for chosen in permutations(names[:TRIED], len(form)):
            yield dict(zip(form, chosen, strict=True))


def _likely(field: str, names: list[str]) -> list[str]:
    known = {name.lower(): name for name in reversed(names)}
    likely = [known[alias] for alias in NAMES[field] if alias in known]
    return list(dict.fromkeys([*likely, *nearest(field, names, 2)]))[:TRIED]


def as_override(columns: Mapping[str, str]) -> str:
    """`data.columns={instruction: question, output: answer}`, with quotes around a name that needs them."""
    pairs = ", ".join(f"{ours}: {theirs if theirs.replace('_', 'a').isalnum() else repr(theirs)}" for ours, theirs in columns.items())
    return f"data.columns={{{pairs}}}"
