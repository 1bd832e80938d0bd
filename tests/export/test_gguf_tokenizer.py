"""Tokenizers in a GGUF file: only those that llama.cpp splits alike."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from fulgurite.errors import ModelError
from fulgurite.export.gguf_tokenizer import (
    CONTROL,
    LLAMA_3,
    NORMAL,
    UNUSED,
    USER_DEFINED,
    find_split,
    read_vocabulary,
)
from fulgurite.model.tiny_tokenizer import tokenizer

BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False)
SPLIT_BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def split_by(pattern: str) -> Any:
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), SPLIT_BYTES])


@pytest.mark.parametrize(("step", "name"), [
    (BYTES, "gpt-2"),
    (pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), BYTES]), "smollm"),
    (split_by(LLAMA_3), "llama-bpe"),
    (split_by(LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}")), "qwen2"),
    (split_by(r"\s+"), None),
    (pre_tokenizers.Whitespace(), None),
    (pre_tokenizers.ByteLevel(add_prefix_space=True), None),
    (pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=False), BYTES]), None),
])
def test_a_split_has_the_name_of_llama_cpp_or_none(step: Any, name: str | None) -> None:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = step
    assert find_split(json.loads(made.to_str())["pre_tokenizer"]) == name
    assert find_split(None) is None


def test_tokens_are_in_the_order_of_their_numbers_and_rows_without_one_are_unused() -> None:
    words = tokenizer(512)
    words.add_tokens(["<tool>"])
    found = read_vocabulary(words, len(words) + 2)
    assert found.tokens[: len(words)] == words.convert_ids_to_tokens(range(len(words)))
    kinds = dict(zip(found.tokens, found.types, strict=True))
    assert (kinds["<|im_end|>"], kinds["<tool>"], kinds["a"]) == (CONTROL, USER_DEFINED, NORMAL)
    assert found.types[-2:] == [UNUSED, UNUSED]
    merged = [tuple(merge.split(" ")) for merge in found.merges]
    assert all(left + right in kinds for left, right in merged)


def test_other_tokenizers_are_refused() -> None:
    pieces = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    with pytest.raises(ModelError, match=r"byte-level BPE .* and this one is WordLevel.*convert_hf_to_gguf\.py"):
        read_vocabulary(pieces, 10)
    with pytest.raises(ModelError, match="embeddings for 100; export with format=safetensors"):
        read_vocabulary(tokenizer(512), 100)
