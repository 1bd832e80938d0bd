"""Streams of answers: the pieces are the whole text, and end at a stop."""

from __future__ import annotations

import pytest
import torch

from fulgurite.model.config import Tiny
from fulgurite.model.tiny import build
from fulgurite.serve.answer_stream import AnswerStream, CancelledAnswer, StopCutter, StopReached


@pytest.mark.parametrize("text", [
    "Plain words, and more.", "  blanks  inside \n\n lines\n  and after ",
    "汉字和 emoji 👩‍👩‍👧 naïve", "\x00\x1b[2J", "",
])
def test_pieces_are_the_whole_text_token_by_token(text: str) -> None:
    tokenizer = build(Tiny(hidden=32, layers=1), torch.float32).tokenizer
    ids, pieces = tokenizer(text, add_special_tokens=False)["input_ids"], list[str]()
    stream = AnswerStream(tokenizer.decode, {tokenizer.eos_token_id}, (), pieces.append)
    stream.put(torch.tensor([[1, 2, 3]]))
    for token in [*ids, tokenizer.eos_token_id]:
        stream.put(torch.tensor([token]))
    stream.end()
    stream.finish()
    assert "".join(pieces) == tokenizer.decode(ids) == text
    assert stream.total_tokens == len(ids) + 1
    assert all(pieces)
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(pieces)


def test_half_a_character_at_the_end_is_shown_as_decoding_shows_it() -> None:
    tokenizer = build(Tiny(hidden=32, layers=1), torch.float32).tokenizer
    ids, pieces = tokenizer("x汉", add_special_tokens=False)["input_ids"][:-1], list[str]()
    stream = AnswerStream(tokenizer.decode, (), (), pieces.append)
    stream.put(torch.tensor([1]))
    for token in ids:
        stream.put(torch.tensor([token]))
    assert "".join(pieces) == "x"
    stream.finish()
    assert "".join(pieces) == tokenizer.decode(ids)


def decode_words(ids: list[int]) -> str:
    """Blanks between words, none before the first, as SentencePiece decodes."""
    return " ".join(f"w{n}" for n in ids)


def test_a_tokenizer_that_drops_the_first_blank_loses_none() -> None:
    pieces: list[str] = []
    stream = AnswerStream(decode_words, (), (), pieces.append)
    for tokens in ([0], [1], [2, 3], [4]):
        stream.put(torch.tensor(tokens))
    stream.finish()
    assert pieces == ["w1", " w2 w3", " w4"]


def test_a_tokenizer_that_changes_earlier_text_loses_nothing() -> None:
    def decode(ids: list[int]) -> str:
        return "".join("abc."[n] for n in ids).replace("c.", "!")

    pieces: list[str] = []
    stream = AnswerStream(decode, (), (), pieces.append)
    for token in (0, 0, 1, 2, 3, 0):
        stream.put(torch.tensor([token]))
    stream.finish()
    assert "".join(pieces).startswith("ab")
    assert "".join(pieces).endswith("a")


@pytest.mark.parametrize(("stops", "pieces", "text", "stopped"), [
    ((), ["ab", "c"], "abc", False), (("c",), ["ab", "cd"], "ab", True), (("bc",), ["a", "b", "c"], "a", True),
    (("bcx",), ["a", "b", "c"], "abc", False), (("aab",), ["a", "a", "a", "b"], "a", True),
    (("zz", "b"), ["az", "b"], "az", True), (("b", "ab"), ["ab"], "", True),
])
def test_a_stop_is_found_across_pieces(stops: tuple[str, ...], pieces: list[str], text: str, stopped: bool) -> None:
    cutter, found, end = StopCutter(stops), "", False
    for piece in pieces:
        new, end = cutter.feed(piece)
        found += new
        if end:
            break
    assert (found if end else found + cutter.finish(), end) == (text, stopped)


def test_a_stop_and_a_client_that_leaves_end_the_generation() -> None:
    pieces: list[str] = []
    stream = AnswerStream(decode_words, (), ("w2",), pieces.append)
    for token in (0, 1):
        stream.put(torch.tensor([token]))
    with pytest.raises(StopReached):
        stream.put(torch.tensor([2]))
    assert "".join(pieces) == "w1 "
    stream.cancel()
    with pytest.raises(CancelledAnswer):
        stream.put(torch.tensor([3]))
