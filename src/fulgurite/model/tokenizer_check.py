"""Compares a tokenizer with the embedding of its model: padding, and tokens that the embedding has no row for."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from fulgurite.errors import ModelError
from fulgurite.language.message import UserMessage, message

LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_target_positions", "max_sequence_length")
"""Names of the longest input in configs; the first that is there counts."""


def find_longest_input(config: Any, tokenizer: Any) -> int:
    """Returns the longest input in tokens, by the model's config and its tokenizer. Raises ModelError for a limit that
    is not a number."""
    text = config.get_text_config()
    named = next((name for name in LENGTHS if getattr(text, name, None) is not None), LENGTHS[0])
    limits = {named: getattr(text, named, None), "model_max_length": tokenizer.model_max_length}
    # XLNet's -1 is no limit
    return min(_positions(name, limit) for name, limit in limits.items() if limit not in (None, -1))


def _positions(name: str, limit: Any) -> int:
    if not isinstance(limit, int | float) or not math.isfinite(limit) or limit < 1:
        raise ModelError(
            "The model's folder: field '{name}': expected a number of tokens, found {limit:.60}; correct it.",
            name=name, limit=repr(limit),
        )
    return int(limit)


def get_padding(tokenizer: Any, rows: int) -> int:
    """Returns a token id for padding: the tokenizer's own if the embedding has a row for it."""
    asked = (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id, tokenizer.bos_token_id)
    return next((int(i) for i in asked if i is not None and 0 <= i < rows), 0)


def mend_padding(tokenizer: Any, rows: int) -> list[UserMessage]:
    """Gives the tokenizer a padding token that the embedding has a row for; returns a sentence about the change.

    A tokenizer without a padding token pads with its end token, as usual, without a sentence.
    """
    own = tokenizer.pad_token_id
    if own is not None and 0 <= own < rows:
        return []
    found = get_padding(tokenizer, rows)
    before, tokenizer.pad_token = tokenizer.pad_token, tokenizer.convert_ids_to_tokens(found)
    if own is None:
        return []
    return [message(
        "The padding token {before!r} is number {own}, and the embedding has {rows:,} rows: {after!r} ({found}) is "
        "used "
        "for padding.",
        before=before, own=own, rows=rows, after=tokenizer.pad_token, found=found,
    )]


def refuse_unknown(tokenizer: Any, rows: int, ids: Iterable[int]) -> None:
    """Raises ModelError for a token id that the embedding has no row for."""
    outside = next((i for i in ids if i >= rows), None)
    if outside is not None:
        raise ModelError(
            "{fault} {remedy}", fault=describe_outside(tokenizer, rows, outside),
            remedy=suggest_new_row(tokenizer, outside),
        )


def describe_outside(tokenizer: Any, rows: int, token: int) -> UserMessage:
    """Returns the sentence that the embedding has no row for a token."""
    return message(
        "The token {word!r} is number {token}, and the model's embedding has {rows:,} rows.",
        word=tokenizer.convert_ids_to_tokens(token), token=token, rows=rows,
    )


def suggest_new_row(tokenizer: Any, token: int) -> UserMessage:
    """Returns the remedy for a token that the embedding has no row for."""
    return message(
        "Give it a row: model.add_tokens='[\"{word}\"]', or use the tokenizer that the model was trained with.",
        word=tokenizer.convert_ids_to_tokens(token),
    )
