"""Describes records that no format reads, and finds the `data.columns` with which they can be read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import permutations, product
from typing import Any

from fulgurite.data.fields import LONG, describe_kind
from fulgurite.data.reads import Reads
from fulgurite.data.report import Phrases
from fulgurite.errors import find_nearest
from fulgurite.language.message import UserMessage, message

QUESTION = (
    "instruction",
    "prompt",
    "question",
    "query",
    "input",
    "problem",
    "user",
    "human",
    "request",
    "source",
    "context",
    "q",
)
ANSWER = (
    "output",
    "completion",
    "response",
    "answer",
    "answers",
    "assistant",
    "gpt",
    "reply",
    "solution",
    "target",
    "label",
    "a",
)
TALK = ("messages", "conversations", "conversation", "chat", "dialog", "dialogue", "turns", "items", "contents")
SPEAKER = ("role", "from", "speaker", "author", "sender", "who", "participant", "name", "user", "type")
SAID = ("content", "value", "text", "utterance", "message", "parts", "body", "msg")
"""Names of the two keys of a turn in other datasets."""

NAMES: dict[str, tuple[str, ...]] = {
    "instruction": QUESTION,
    "prompt": ("prompt", *QUESTION),
    "output": ANSWER,
    "completion": ("completion", *ANSWER),
    "messages": TALK,
    "text": ("text", "content", "body", "document", "article", "raw_content", "passage", "code"),
    "chosen": (
        "chosen",
        "preferred",
        "better",
        "winner",
        "positive",
        "accepted",
        "good",
        "response_chosen",
        "chosen_response",
        "preferred_output",
    ),
    "rejected": (
        "rejected",
        "dispreferred",
        "worse",
        "loser",
        "negative",
        "bad",
        "response_rejected",
        "rejected_response",
        "non_preferred_output",
    ),
    "label": ("label", "kto_tag", "good", "is_good", "feedback", "thumbs_up", "correct", "rating"),
}
"""Names of our fields in other datasets, the most likely one first."""
FURTHER: dict[str, tuple[str, ...]] = {
    "system": (
        "system_prompt", "system_message", "sys", "systeminstruction", "system_instruction",
    ),
    "input": ("context", "passage"), "tools": ("tools", "available_tools"),
    "history": ("chat_history", "conversation_history"),
    "reasoning_content": ("complex_cot", "cot", "chain_of_thought", "thinking_process"),
}
"""Further fields that records may have, and their names in other datasets."""
IDENTITY = re.compile(r"(^|_)(id|uuid|url|index|idx|source|lang|category|type|title|date)$")
"""Names of columns that are neither question nor answer."""
FEW = 12
"""Number of fields that the description of a record has."""
TRIED = 4
"""Number of columns that are tried in every order."""


def describe_record(record: Any) -> UserMessage:
    """Returns the fields of a record and their kinds in one line: `{question: text, answer: a number}`."""
    if not isinstance(record, Mapping):
        return describe_kind(record)
    parts: list[object] = [
        UserMessage("{name}: {kind}", {"name": _shorten(name), "kind": _describe(value)})
        for name, value in list(record.items())[:FEW]
    ]
    if len(record) > FEW:
        parts.append(message("and {count} more", count=len(record) - FEW))
    return UserMessage("{{{parts}}}", {"parts": Phrases(tuple(parts))})


def _describe(value: Any) -> UserMessage:
    if not isinstance(value, list) or not value:
        return describe_kind(value)
    inner = value[0]
    if isinstance(inner, Mapping):
        return message("a list of {{{names}}}", names=", ".join(_shorten(name) for name in list(inner)[:FEW]))
    return message("a list, the first item is {kind}", kind=describe_kind(inner))


def _shorten(name: Any) -> str:
    text = str(name)
    return text if len(text) <= LONG else f"{text[:LONG]}…"


def suggest_columns(
    records: Sequence[Any], due: Reads, is_read: Callable[[Any, Mapping[str, str]], bool], guess: bool,
) -> dict[str, str] | None:
    """Returns the columns with which most of the records can be read, or None; empty if they can be read with their own
    names.

    `due` is the declaration of the stage; `is_read(record, columns)` tries one record. If `guess` is true and no name
    is known, the first columns are tried in every order.
    """
    objects = [record for record in records if isinstance(record, Mapping)]
    if not objects:
        return None

    def fits(columns: Mapping[str, str]) -> bool:
        # Most are enough: a few damaged records must not hide the right columns.
        return 2 * sum(is_read(record, columns) for record in objects) > len(objects)

    # Most likely columns first; each mapping is tried on the records until one fits most of them.
    names = list(_list_names(objects[0]))
    ranked = _list_ranked(objects[0]) if due.compares else ()
    for columns in [*ranked, *_list_candidates(names, due.forms, guess), *_list_turn_keys(objects[0], names)]:
        if fits(columns):
            # Add further fields, such as system, as long as the records can be read with them.
            for ours, alias in _list_further(names, columns):
                if ours not in columns and fits(columns | {ours: alias}):
                    columns = columns | {ours: alias}
            return {ours: theirs for ours, theirs in columns.items() if ours != theirs}
    return None


def _list_names(record: Mapping[str, Any]) -> Iterable[str]:
    """Yields the columns of a record, then the keys of those that are objects (`body.messages`), and the first of a
    list of texts."""
    short = {str(name): value for name, value in record.items() if len(str(name)) <= LONG}
    yield from short
    for name, value in list(short.items())[:FEW]:
        for key, inner in list(value.items())[:FEW] if isinstance(value, Mapping) else []:
            path = f"{name}.{key}"
            if len(path) <= LONG:
                yield path
                if isinstance(inner, list) and inner and isinstance(inner[0], str):
                    yield f"{path}.0"


def _list_candidates(names: list[str], forms: Sequence[tuple[str, ...]], guess: bool) -> Iterable[dict[str, str]]:
    """Yields the mappings to try: by the names in other datasets, by names similar to ours, then the first columns in
    every order."""
    for form in forms:
        yield from _list_mappings(form, [_find_likely(field, names) for field in form])
    # Guess only among the first columns that may contain text, not an identifier.
    plain = [name for name in names if "." not in name and not IDENTITY.search(name.lower())][:TRIED]
    for form in forms if guess else ():
        yield from _list_mappings(form, [_find_likely(field, names) or plain for field in form])
        for chosen in permutations(plain, len(form)):
            yield dict(zip(form, chosen, strict=True))


def _list_ranked(record: Mapping[str, Any]) -> Iterable[dict[str, str]]:
    """Yields columns that read a list of two answers, the better one first, as a pair: LLaMA-Factory's older ranking
    form."""
    for name, value in record.items():
        if isinstance(value, list) and len(value) == 2 and all(isinstance(one, str) for one in value):
            yield {"chosen": f"{name}.0", "rejected": f"{name}.1"}


def _list_turn_keys(record: Mapping[str, Any], names: list[str]) -> Iterable[dict[str, str]]:
    """Yields columns that also name the two keys of a turn, for a record with a list of objects."""
    for column in _find_likely("messages", names):
        turns = record.get(column)
        if isinstance(turns, list) and turns and isinstance(turns[0], Mapping):
            keys = [str(key) for key in turns[0] if len(str(key)) <= LONG]
            speaker, said = (
                [key for alias in aliases for key in keys if key.lower() == alias] for aliases in (SPEAKER, SAID)
            )
            for role, content in product(speaker, said):
                if role != content:
                    yield {"messages": column, "role": role, "content": content}


def _list_mappings(form: Sequence[str], choices: Sequence[Sequence[str]]) -> Iterable[dict[str, str]]:
    for chosen in product(*choices):
        if len(set(chosen)) == len(chosen):
            yield dict(zip(form, chosen, strict=True))


def _find_likely(field: str, names: list[str]) -> list[str]:
    # Exact names in other datasets first, then similar names, then keys inside a column.
    known = {name.lower(): name for name in reversed(names)}
    likely = [known[alias] for alias in NAMES[field] if alias in known]
    inside = [name for alias in NAMES[field] for name in names if "." in name and alias in name.lower().split(".")]
    return list(dict.fromkeys([*likely, *find_nearest(field, names, 2), *inside]))[:TRIED]


def _list_further(names: Sequence[str], columns: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    """Yields further fields that a record may have, each with a column that is not read yet."""
    used = {*columns, *columns.values()}
    for ours, aliases in FURTHER.items():
        # A field under its own name is read anyway, and `input` belongs to `instruction`.
        if ours in names or (ours == "input" and "instruction" not in columns):
            continue
        found = [name for alias in aliases for name in names if alias in name.lower().split(".") and name not in used]
        yield from ((ours, name) for name in found[:TRIED])


def explain_record(record: Any) -> UserMessage:
    """Returns the remedy for records of other tools that no columns can make readable; empty for other records."""
    if not isinstance(record, Mapping):
        return UserMessage()
    if isinstance(record.get("segments"), list):
        return message(
            "segments are text without a chat template, which is not supported: write each as a turn of messages, "
            "with train: false if it is not learned"
        )
    role = next((name for name in ("role", "from") if isinstance(record.get(name), str)), None)
    text = next((name for name in ("content", "value", "text") if isinstance(record.get(name), str)), None)
    if role and text:
        if "parent_id" in record:
            return message(
                "found one turn per record ({role} and {text}), expected conversations: put the turns of each, along "
                "the path of parent_id, into a list messages",
                role=role, text=text,
            )
        return message(
            "found one turn per record ({role} and {text}), expected conversations: put the turns of each into a list "
            "messages",
            role=role, text=text,
        )
    if isinstance(record.get("completions"), list) and isinstance(record.get("labels"), list):
        return message("labels for each step of an answer train a process reward model, which no stage supports")
    return UserMessage()


def format_override(columns: Mapping[str, str]) -> str:
    """Formats `data.columns={instruction: question, output: answer}`, with quotes around a name that needs them."""
    pairs = ", ".join(
        f"{ours}: {theirs if theirs.replace('_', 'a').isalnum() else repr(theirs)}" for ours, theirs in columns.items()
    )
    return f"data.columns={{{pairs}}}"
