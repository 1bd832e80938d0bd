"""A tokenizer held against the embedding of its model: padding, and tokens that the embedding has no row for."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from fulgurite.errors import ModelError

LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_target_positions", "max_sequence_length")
"""What configs call the longest input; the first that is there counts."""


def longest_input(config: Any, tokenizer: Any) -> int:
    """The longest input in tokens, by the model's config and its tokenizer. Raises ModelError for a limit that is no
    number."""
    text = config.get_text_config()
    named = next((name for name in LENGTHS if getattr(text, name, None) is not None), LENGTHS[0])
    limits = {named: getattr(text, named, None), "model_max_length": tokenizer.model_max_length}
    # XLNet's -1 is no limit
    return min(_positions(name, limit) for name, limit in limits.items() if limit not in (None, -1))


def _positions(name: str, limit: Any) -> int:
    if not isinstance(limit, int | float) or not math.isfinite(limit) or limit < 1:
        raise ModelError(
            f"The model's folder: field '{name}': expected a number of tokens, found {limit!r:.60}; correct it."
        )
    return int(limit)


def get_padding(tokenizer: Any, rows: int) -> int:
    """A token id that may stand where nothing is read: the tokenizer's own padding if the embedding has a row for
    it."""
    asked = (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id, tokenizer.bos_token_id)
    return next((int(i) for i in asked if i is not None and 0 <= i < rows), 0)


def mend_padding(tokenizer: Any, rows: int) -> list[str]:
    """Gives the tokenizer a padding token that the embedding has a row for; returns what was changed, in a sentence.

    That a tokenizer without one pads by its end token is usual, and not worth a sentence.
    """
    own = tokenizer.pad_token_id
    if own is not None and 0 <= own < rows:
        return []
    found = get_padding(tokenizer, rows)
    said = f"The padding token {tokenizer.pad_token!r} is number {own}, and the embedding has {rows:,} rows: "
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(found)
    return [] if own is None else [said + f"{tokenizer.pad_token!r} ({found}) pads in its place."]


def refuse_unknown(tokenizer: Any, rows: int, ids: Iterable[int]) -> None:
    """Raise ModelError for a token id without a row."""
    outside = next((i for i in ids if i >= rows), None)
    if outside is not None:
        raise ModelError(beyond(tokenizer, rows, outside) + " " + remedy(tokenizer, outside))


def beyond(tokenizer: Any, rows: int, token: int) -> str:
    """That the embedding has no row for a token."""
    return (
        f"The token {tokenizer.convert_ids_to_tokens(token)!r} is number {token}, and the model's embedding has "
        f"{rows:,} rows."
    )


def remedy(tokenizer: Any, token: int) -> str:
    """What to do about a token without a row."""
    word = tokenizer.convert_ids_to_tokens(token)
    return f"""Give it a row: model.add_tokens='["{word}"]', or take the tokenizer that the model was trained with."""
