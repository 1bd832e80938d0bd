"""Loads a causal language model or a reward model, and its tokenizer, from a folder or the hub. Never reads a pickle,
and runs code only if that is allowed."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    dynamic_module_utils,
)
from transformers.utils import logging as transformers_logging

from fulgurite.errors import FulguriteError, ModelError, excerpt, is_shortage
from fulgurite.language.library_errors import quote_foreign
from fulgurite.language.message import UserMessage, message
from fulgurite.model import config as c
from fulgurite.model.attention import with_attention
from fulgurite.model.classifier import check_classifier, is_classifier
from fulgurite.model.generation_config import refuse_unreadable
from fulgurite.model.reward_head import check_head
from fulgurite.model.safety import (
    describe_how_to_allow,
    describe_missing_safetensors,
    describe_unreachable,
    locate,
    refuse_incomplete,
)
from fulgurite.model.tokenizer_check import find_longest_input, mend_padding
from fulgurite.model.validate import describe_suspects
from fulgurite.text.console import shorten

LONGEST = 600
"""Maximum characters of another library's message; the middle of a longer one is left out, so that its remedy stays.
"""
CLASS = re.compile(r"\w+: Class validation error for validator '\w+':( \w+:)?")
FIELD = re.compile(r"Validation error for field '(?P<field>\w+)':(?: \w+:)?(?: Field '\w+')? (?P<reason>.*)")
"""The forms of transformers' messages that config.json contradicts itself, or that a field has the wrong type."""
dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0  # transformers never asks on stdin whether code may run
# Its table of weights that do not fit is replaced by an error of one line.
logging.getLogger("transformers.modeling_utils").addFilter(lambda record: "LOAD REPORT" not in str(record.msg))


class Form(StrEnum):
    """What a folder is loaded as."""

    causal = "causal"
    reward = "reward"
    adapter = "adapter"


@dataclass(slots=True)
class Loaded:
    """A model in the requested dtype, on the CPU, with its tokenizer and the longest input it was made for."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    length: int
    notes: list[UserMessage] = field(default_factory=list)
    """What was corrected while loading, a sentence each."""
    attention: str = ""
    """The implementation of attention that it was loaded with; empty if that is not known."""


def load(
    path: str | Path,
    config: c.Model,
    dtype: torch.dtype,
    revision: str | None = None,
    code: bool = False,
    reward: bool = False,
) -> Loaded:
    """Loads from `path` (a folder or hub id), and runs its Python code if `code`; with `reward` a reward model is
    loaded with its head.

    Raises ModelError in one sentence with the remedy.
    """
    transformers_logging.disable_progress_bar()
    folder = locate(path, revision, code)
    refuse_unreadable(folder)
    classifies = is_classifier(folder)
    kind_of_model = AutoModelForSequenceClassification if classifies else AutoModelForCausalLM
    with raise_one_error(path, Form.reward if classifies else Form.causal):
        if classifies:
            check_classifier(
                path, AutoConfig.from_pretrained(folder, trust_remote_code=code, local_files_only=True), reward
            )
        tokenizer = read_tokenizer(folder, code)
        (model, info), attention = with_attention(
            lambda kind: kind_of_model.from_pretrained(
                folder,
                dtype=dtype,
                attn_implementation=kind,
                use_safetensors=True,
                trust_remote_code=code,
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused by name below
            ),
            str(config.attention),
        )
    refuse_incomplete(path, info)
    if classifies:
        check_head(model)
    found = loaded(model, tokenizer, config.add_tokens)
    found.attention = attention
    return found


def outline(
    path: str | Path, revision: str | None = None, code: bool = False
) -> tuple[PretrainedConfig, PreTrainedTokenizerBase]:
    """Returns what `load` reads before the weights: config and tokenizer. Raises ModelError as it does."""
    folder = locate(path, revision, code, weights=False)
    refuse_unreadable(folder)
    with raise_one_error(path):
        shape = AutoConfig.from_pretrained(folder, trust_remote_code=code, local_files_only=True)
        return shape, read_tokenizer(folder, code)


def read_tokenizer(folder: Path, code: bool) -> PreTrainedTokenizerBase:
    """Loads the tokenizer of a checked folder. Raises ModelError if its class is a pair of tokenizers, or none."""
    found: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=code, local_files_only=True)
    if not isinstance(found, PreTrainedTokenizerBase):
        raise ModelError(
            "{folder}/tokenizer_config.json: field 'tokenizer_class': {name} is not a tokenizer for a single text; "
            "use another model.",
            folder=folder, name=type(found).__name__,
        )
    return found


@contextlib.contextmanager
def raise_one_error(path: str | Path, kind: Form = Form.causal) -> Iterator[None]:
    """Turns any exception of another library into one ModelError; an exception for lack of memory is kept."""
    try:
        yield
    except FulguriteError:
        raise
    except Exception as error:  # transformers and peft raise every type there is on a malformed file
        if is_shortage(error):
            raise
        raise ModelError(_describe_error(path, error, kind)) from error


def loaded(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, new_tokens: list[str]) -> Loaded:
    """Prepares a model for training: no cache, a padding token, new tokens, and the longest input."""
    if new_tokens:
        add_tokens(model, tokenizer, new_tokens)
    model.config.use_cache = False
    notes = mend_padding(tokenizer, int(model.get_input_embeddings().weight.shape[0]))
    return Loaded(model, tokenizer, find_longest_input(model.config, tokenizer), notes)


@torch.no_grad()
def add_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, words: list[str]) -> None:
    """Makes each word one token, whose input and output embeddings start as the mean of the existing ones.

    transformers' own resizing draws them at random around the mean. `model.new_token_ids` gives methods their ids. A
    token that the tokenizer already has gets a row of the embedding if it has none. Raises ModelError for a word that
    has one.
    """
    known, rows = tokenizer.get_vocab(), int(model.get_input_embeddings().weight.shape[0])
    for word in words:
        if known.get(word, rows) < rows or words.count(word) > 1 or not word.strip():
            raise ModelError("model.add_tokens: {word!r} is a token already; leave it out.", word=word)
    # Rows before the first new token: padding of the embedding beyond the vocabulary was never trained.
    before = min([len(tokenizer), rows, *(known[word] for word in words if word in known)])
    tokenizer.add_tokens([word for word in words if word not in known])
    ids = tokenizer.convert_tokens_to_ids(words)
    if max(ids) >= rows:
        model.resize_token_embeddings(max(ids) + 1, mean_resizing=False)
    for ends in (model.get_input_embeddings(), model.get_output_embeddings()):
        if ends is None:  # a reward model has no output layer
            continue
        weight = ends.weight
        # The mean in float32, because a sum over the vocabulary in 16 bits loses most of its digits.
        weight[ids] = weight[:before].float().mean(0).to(weight.dtype)
    model.new_token_ids = ids


def _describe_field(path: str | Path, text: str) -> UserMessage:
    found = FIELD.match(text)
    return UserMessage() if found is None else message(
        "{path}/config.json: field '{field}': {reason}; correct it, or download it again.",
        path=path, field=found["field"], reason=quote_foreign(found["reason"], LONGEST),
    )


def _describe_error(path: str | Path, error: Exception, kind: Form) -> UserMessage:
    text = " ".join(str(error).split())
    if "safetensors" in text and ("not have" in text or "no file named" in text or "use_safetensors" in text):
        return describe_missing_safetensors(path)
    if "trust_remote_code" in text or "custom code" in text or "remote code" in text:
        return message("{path} needs to run its own Python code; read it, then add {words}", path=path,
                       words=describe_how_to_allow(path))
    if isinstance(path, Path) or Path(path).exists():
        if named := _describe_field(path, text):
            return named
        clear = isinstance(error, OSError | ValueError | ImportError) and " " in text
        words = text if clear else CLASS.sub("config.json:", f"{type(error).__name__}: {text}")
        reason = message(
            "{text}{suspects}", text=quote_foreign(excerpt(words, LONGEST), LONGEST),
            suspects=UserMessage() if clear else describe_suspects(path),
        )
        if kind is Form.causal:
            return message("{path} cannot be loaded as a causal language model: {reason}", path=path, reason=reason)
        if kind is Form.reward:
            return message("{path} cannot be loaded as a reward model: {reason}", path=path, reason=reason)
        return message("{path} cannot be loaded as an adapter of this model: {reason}", path=path, reason=reason)
    return describe_unreachable(path, shorten(text, LONGEST))

