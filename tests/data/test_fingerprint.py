"""The hash of what was read: any change, in any file and in its order, gives another one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fulgurite.data.example import Bad, Conversation, Example, Message, Place
from fulgurite.data.fingerprint import Fingerprint, find_longest_content
from fulgurite.errors import DataError


def example(line: int, answer: str = "a", file: str = "a.jsonl", **more: Any) -> Example:
    return Example(Place(file, line), Conversation((Message("user", "q"), Message("assistant", answer))), **more)


def fingerprint(*records: Example | Bad) -> Fingerprint:
    found = Fingerprint()
    assert list(found.through(records)) == list(records)
    return found


BASE = (example(1), Bad(Place("a.jsonl", 2), "output", "is empty"), example(1, "b", "b.jsonl"))
CHANGED: dict[str, tuple[Example | Bad, ...]] = {
    "an answer": (example(1, "x"), *BASE[1:]),
    "a judgement": (replace(BASE[0], good=False), *BASE[1:]),  # type: ignore[type-var]
    "a margin": (replace(BASE[0], margin=1.0), *BASE[1:]),  # type: ignore[type-var]
    "a column": (replace(BASE[0], columns={"n": 1}), *BASE[1:]),  # type: ignore[type-var]
    "a line": (example(3), *BASE[1:]),
    "a reason": (BASE[0], Bad(Place("a.jsonl", 2), "output", "is null"), BASE[2]),
    "the order of files": (BASE[2], *BASE[:2]),
    "one record fewer": BASE[:2],
    "a text": (Example(Place("a.jsonl", 1), text="q a"), *BASE[1:]),
}


def test_the_same_records_give_the_same_hash_whatever_the_files_are_called() -> None:
    other = [replace(record, place=Place("new-" + record.place.file, record.place.line)) for record in BASE]
    assert fingerprint(*BASE).hex() == fingerprint(*other).hex()
    assert fingerprint(*BASE).counts == {"a.jsonl": 2, "b.jsonl": 1}


@pytest.mark.parametrize("name", CHANGED)
def test_a_change_gives_another_hash_and_is_refused_with_the_file(name: str) -> None:
    before, now = fingerprint(*BASE), fingerprint(*CHANGED[name])
    assert before.hex() != now.hex()
    before.refuse_other(fingerprint(*BASE))
    if name == "the order of files":
        before.refuse_other(now)  # each file is as it was
        return
    with pytest.raises(
        DataError, match=r"\.jsonl changed while it was read: [12] records at the check, [012] after it"
    ):
        before.refuse_other(now)


def test_the_longest_message_is_found_on_both_sides() -> None:
    pair = replace(example(1, "abc"), rejected=Conversation((Message("user", "q"), Message("assistant", "abcde"))))
    assert find_longest_content(pair) == "abcde"
    assert find_longest_content(Example(Place("a", 1), text="running text")) == ""
    assert fingerprint(example(1, "abcd"), pair, example(3)).longest == 5
