"""The tokenizer of a GGUF file: byte-level BPE, in the names of llama.cpp.

Only tokenizers whose text splitting llama.cpp has under a name are written: another splitting would
tokenize differently in silence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from fulgurite.errors import ModelError

LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)
"""The expression by which Llama 3 splits text."""
SPLITS = {LLAMA_3: "llama-bpe", LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}"): "qwen2"}
"""llama.cpp's names (`llama_vocab_pre_type`) of splitting by an expression."""
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
"""llama.cpp's types of tokens (`llama_token_type`)."""


@dataclass(frozen=True, slots=True)
class GgufVocabulary:
    """Tokens with their types, the merges of BPE in their order, and llama.cpp's name of how text is split."""

    tokens: list[str]
    types: list[int]
    merges: list[str]
    split: str


def read_vocabulary(tokenizer: PreTrainedTokenizerBase, size: int) -> GgufVocabulary:
    """Returns the vocabulary of a tokenizer for a model with `size` rows of embeddings.

    Raises ModelError if it is not a byte-level BPE that llama.cpp knows.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise build_refusal(type(tokenizer).__name__, "")
    whole = json.loads(backend.to_str())
    model = whole["model"]
    split = find_split(whole.get("pre_tokenizer"))
    if model.get("type") != "BPE" or model.get("byte_fallback") or whole.get("normalizer") or split is None:
        found = json.dumps(whole.get("pre_tokenizer"), ensure_ascii=False)[:200]
        raise build_refusal(str(model.get("type")), found)
    added = {entry["id"]: entry for entry in whole.get("added_tokens", [])}
    texts = {number: text for text, number in model["vocab"].items()}
    texts |= {number: entry["content"] for number, entry in added.items()}
    if len(texts) > size:
        raise ModelError(
            "The tokenizer has {tokens} tokens, but the model has embeddings for {rows}; export with "
            "format=safetensors.",
            tokens=len(texts), rows=size,
        )
    tokens, types = [], []
    for number in range(size):
        # Rows of embeddings without a token: models round their number up.
        tokens.append(texts.get(number, f"[PAD{number}]"))
        types.append(_find_type(number, texts, added))
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]
    return GgufVocabulary(tokens, types, merges, split)


def build_refusal(kind: str, found: str) -> ModelError:
    """Returns the refusal of a tokenizer of this kind, with what splits its text."""
    return ModelError(
        "format=gguf writes byte-level BPE tokenizers whose splitting llama.cpp knows by a name, and this one is "
        "{kind} {found}; export with format=safetensors and convert the folder with llama.cpp's own "
        "convert_hf_to_gguf.py.",
        kind=kind, found=found,
    )


def find_split(pre_tokenizer: Mapping[str, Any] | None) -> str | None:
    """Returns llama.cpp's name for a pre-tokenizer of tokenizer.json; None if it has none."""
    steps = _list_steps(pre_tokenizer)
    kinds = [step["type"] for step in steps]
    if not steps or kinds[-1] != "ByteLevel" or steps[-1].get("add_prefix_space"):
        return None
    by_words = steps[-1].get("use_regex", True)
    if kinds == ["ByteLevel"] and by_words:
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits") and by_words:
        return "smollm"
    if kinds == ["Split", "ByteLevel"] and not by_words and steps[0].get("behavior") == "Isolated":
        return SPLITS.get(steps[0]["pattern"].get("Regex", ""))
    return None


def _list_steps(pre_tokenizer: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    if pre_tokenizer is None:
        return []
    if pre_tokenizer["type"] != "Sequence":
        return [pre_tokenizer]
    return list(pre_tokenizer["pretokenizers"])


def _find_type(number: int, texts: Mapping[int, str], added: Mapping[int, Mapping[str, Any]]) -> int:
    """Returns llama.cpp's type of a token: it prints no control token, and splits no user-defined one."""
    if number not in texts:
        return UNUSED
    if number not in added:
        return NORMAL
    return CONTROL if added[number]["special"] else USER_DEFINED
