"""Padding of a reward model: transformers reads the reward before the padding tokens at the end of a sequence."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

NEW_PADDING = ("<|pad|>", "<pad>", "[PAD]", "<|fulgurite_pad|>")
"""Names for a new padding token; the first that is not a token yet is used."""


def free_padding(tokenizer: PreTrainedTokenizerBase, stop_ids: Sequence[int]) -> int | None:
    """Returns a special token that ends no answer, and so can be used for padding; None if the tokenizer has none."""
    special = [i for i in (tokenizer.pad_token_id, tokenizer.unk_token_id, *tokenizer.all_special_ids) if i is not None]
    return next((int(i) for i in special if i not in stop_ids), None)
