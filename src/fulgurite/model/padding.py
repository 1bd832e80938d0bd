"""Padding of a reward model: transformers reads the reward before the first padding token that it finds at the end
of a row."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

NEW_PADDING = ("<|pad|>", "<pad>", "[PAD]", "<|fulgurite_pad|>")
"""Names of a padding token that is added; the first that is no token yet."""


def free_padding(tokenizer: PreTrainedTokenizerBase, stop_ids: Sequence[int]) -> int | None:
    """A special token that ends no answer, and so can be padding; None if the tokenizer has none."""
    special = [i for i in (tokenizer.pad_token_id, tokenizer.unk_token_id, *tokenizer.all_special_ids) if i is not None]
    return next((int(i) for i in special if i not in stop_ids), None)
