"""Bytes of learned text: with a byte-level tokenizer every text is known exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fulgurite.data.dataset import TokenDataset
from fulgurite.evaluate.text_bytes import count_target_bytes
from fulgurite.model.config import Tiny
from fulgurite.model.tiny_tokenizer import END, tokenizer


class Tokens:
    """Stands for tokenized data: some texts, each with the mask of its learned tokens."""

    def __init__(self, rows: list[tuple[list[int], list[bool]]]) -> None:
        self._rows = rows

    def tokens(self, example: int, begin: int, end: int) -> tuple[Any, Any]:
        ids, learn = self._rows[example]
        return np.array(ids[begin:end]), np.array(learn[begin:end])

    def labels(self, example: int, begin: int, end: int) -> int:
        return sum(self._rows[example][1][begin + 1 : end])


@pytest.fixture(scope="module")
def words() -> Any:
    return tokenizer(Tiny().vocabulary)


def build(rows: list[tuple[list[int], list[bool]]], pieces: list[list[int]]) -> TokenDataset:
    starts = np.arange(len(pieces) + 1, dtype=np.int64)
    return TokenDataset(Tokens(rows), np.array(pieces, dtype=np.int64), starts, packed=False)  # type: ignore[arg-type]


def test_learned_text_is_counted_in_bytes_and_its_end_token_is_not(words: Any) -> None:
    prompt, answer = words("What is it? ")["input_ids"], words("学习率 and a rate")["input_ids"]
    ids = [*prompt, *answer, words.convert_tokens_to_ids(END)]
    learn = [False] * len(prompt) + [True] * (len(answer) + 1)
    assert count_target_bytes(build([(ids, learn)], [[0, 0, len(ids)]]), words) == len("学习率 and a rate".encode())


def test_first_token_is_predicted_by_none(words: Any) -> None:
    ids = words("rate of it")["input_ids"]
    first = len(words.decode(ids[:1]).encode())
    assert count_target_bytes(build([(ids, [True] * len(ids))], [[0, 0, len(ids)]]), words) == len("rate of it") - first


@pytest.mark.parametrize("cut", range(2, 12))
def test_pieces_of_a_document_count_as_the_whole(words: Any, cut: int) -> None:
    """A piece begins with the last token of the one before, also inside a character of several bytes."""
    ids = words("a 学习率 b")["input_ids"]
    whole = count_target_bytes(build([(ids, [True] * len(ids))], [[0, 0, len(ids)]]), words)
    pieces = [[0, 0, cut], [0, cut - 1, len(ids)]]
    assert cut < len(ids)
    assert count_target_bytes(build([(ids, [True] * len(ids))], pieces), words) == whole
    assert whole == len("a 学习率 b".encode()) - 1


def test_two_answers_are_two_spans(words: Any) -> None:
    parts = [("q ", False), ("one", True), (" q ", False), ("three", True)]
    ids, learn = [], []
    for text, learned in parts:
        found = words(text)["input_ids"]
        ids += found
        learn += [learned] * len(found)
    assert count_target_bytes(build([(ids, learn)], [[0, 0, len(ids)]]), words) == len("onethree")


def test_a_run_counts_the_bytes_of_its_answers(sft: Path) -> None:
    """Of whole examples that are not cut: the answers of the file."""
    from fulgurite.config.guard import Allowed
    from fulgurite.data.example import Example
    from fulgurite.evaluate.subject import load_run_subject

    subject = load_run_subject(sft, "start", Allowed(), [], True)
    assert subject.data is not None
    assert isinstance(subject.data.rows, TokenDataset)
    rows = subject.data.rows
    places = {place for i in range(len(rows)) for place in rows.places(i)}
    given = [e for e in subject.data.source.examples() if isinstance(e, Example) and str(e.place) in places]
    answers = [m.content for e in given for m in e.messages or () if m.role == "assistant"]
    assert len(given) == len(places)
    assert count_target_bytes(rows, subject.tokenizer) == sum(len(answer.encode()) for answer in answers)
