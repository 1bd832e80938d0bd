"""Loading a causal language model or a reward model, and its tokenizer, from a folder or the hub: data only, never
code, never a pickle."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
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
from fulgurite.model import config as c
from fulgurite.model.attention import with_attention
from fulgurite.model.classifier import check_classifier, is_classifier
from fulgurite.model.generation_config import refuse_unreadable
from fulgurite.model.reward_head import check_head
from fulgurite.model.safety import NO_SAFETENSORS, how_to_allow, locate, refuse_incomplete
from fulgurite.model.tokenizer_check import longest_input, mend_padding
from fulgurite.model.validate import describe_suspects
from fulgurite.text.console import shorten

LONGEST = 600
"""The most characters of another library's message; the middle of a longer one is left out, so that its remedy
stays."""
CLASS = re.compile(r"\w+: Class validation error for validator '\w+':( \w+:)?")
FIELD = re.compile(r"Validation error for field '(?P<field>\w+)':(?: \w+:)?(?: Field '\w+')? (?P<reason>.*)")
"""How transformers says that config.json contradicts itself, or that a field of it has another type."""
dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0  # transformers never asks on stdin whether code may run, whoever calls it
# its table of weights that do not fit is an error here, in one line
logging.getLogger("transformers.modeling_utils").addFilter(lambda record: "LOAD REPORT" not in str(record.msg))


@dataclass(slots=True)
class Loaded:
    """A model in the asked dtype, on the CPU, with its tokenizer and the longest input it was made for."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    length: int
    notes: list[str] = field(default_factory=list)
    """What was mended on the way, a sentence each."""
    attention: str = ""
    """The implementation of attention that it was loaded with, empty if that is not known."""


def load(
    path: str | Path,
    config: c.Model,
    dtype: torch.dtype,
    revision: str | None = None,
    code: bool = False,
    reward: bool = False,
) -> Loaded:
    """Load from `path` (a folder or hub id), and run its Python if `code`; with `reward` a reward model is loaded
    with its head.

    Raises ModelError in one sentence with the remedy.
    """
    transformers_logging.disable_progress_bar()
    folder = locate(path, revision, code)
    refuse_unreadable(folder)
    classifies = is_classifier(folder)
    kind_of_model = AutoModelForSequenceClassification if classifies else AutoModelForCausalLM
    with one_error(path, "a reward model" if classifies else "a causal language model"):
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
    """What `load` reads before the weights. Raises ModelError as it does."""
    folder = locate(path, revision, code, weights=False)
    refuse_unreadable(folder)
    with one_error(path):
        shape = AutoConfig.from_pretrained(folder, trust_remote_code=code, local_files_only=True)
        return shape, read_tokenizer(folder, code)


def read_tokenizer(folder: Path, code: bool) -> PreTrainedTokenizerBase:
    """The tokenizer of a checked folder. Raises ModelError if its class is a pair of tokenizers, or none."""
    found: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=code, local_files_only=True)
    if not isinstance(found, PreTrainedTokenizerBase):
        raise ModelError(
            f"{folder}/tokenizer_config.json: field 'tokenizer_class': {type(found).__name__} is no tokenizer of one "
            f"text."
        )
    return found


@contextlib.contextmanager
def one_error(path: str | Path, what: str = "a causal language model") -> Iterator[None]:
    """Turns whatever another library raises on a foreign folder into one ModelError; a lack of memory stays what it
    is."""
    try:
        yield
    except FulguriteError:
        raise
    except Exception as error:  # transformers and peft raise every type there is on a malformed file
        if is_shortage(error):
            raise
        raise ModelError(_sentence(path, error, what)) from error


def loaded(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, new_tokens: list[str]) -> Loaded:
    """What the rest of the house takes: no cache in training, a padding token, new tokens, the longest input."""
    if new_tokens:
        add_tokens(model, tokenizer, new_tokens)
    model.config.use_cache = False
    notes = mend_padding(tokenizer, int(model.get_input_embeddings().weight.shape[0]))
    return Loaded(model, tokenizer, longest_input(model.config, tokenizer), notes)


@torch.no_grad()
def add_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, words: list[str]) -> None:
    """Make each word one token; its embeddings, at both ends, begin as the mean of those that were there.

    transformers' own resizing draws them at random around the mean. `model.new_token_ids` tells methods which they
    are. A token that the tokenizer has already gets a row of the embedding if it has none. Raises ModelError for a
    word that has one.
    """
    known, rows = tokenizer.get_vocab(), int(model.get_input_embeddings().weight.shape[0])
    for word in words:
        if known.get(word, rows) < rows or words.count(word) > 1 or not word.strip():
            raise ModelError(f"model.add_tokens: {word!r} is a token already; leave it out.")
    before = min([len(tokenizer), rows, *(known[word] for word in words if word in known)])
    tokenizer.add_tokens([word for word in words if word not in known])
    ids = tokenizer.convert_tokens_to_ids(words)
    if max(ids) >= rows:
        model.resize_token_embeddings(max(ids) + 1, mean_resizing=False)
    for ends in (model.get_input_embeddings(), model.get_output_embeddings()):
        if ends is None:  # a reward model has no output layer
            continue
        weight = ends.weight
        weight[ids] = weight[:before].float().mean(0).to(weight.dtype)
    model.new_token_ids = ids


def _sentence(path: str | Path, error: Exception, what: str) -> str:
    text = " ".join(str(error).split())
    if "safetensors" in text and ("not have" in text or "no file named" in text or "use_safetensors" in text):
        return NO_SAFETENSORS.format(path)
    if "trust_remote_code" in text or "custom code" in text or "remote code" in text:
        return f"{path} wants to run its own Python code; read it, then add {how_to_allow(path)}"
    if isinstance(path, Path) or Path(path).exists():
        if found := FIELD.match(text):
            return (
                f"{path}/config.json: field '{found['field']}': {shorten(found['reason'], LONGEST)}; correct it, or "
                f"download it again."
            )
        clear = isinstance(error, OSError | ValueError | ImportError) and " " in text
        said = text if clear else CLASS.sub("config.json:", f"{type(error).__name__}: {text}")
        said = excerpt(said, LONGEST) + ("" if clear else describe_suspects(path))
        return f"{path} cannot be loaded as {what}: {said}"
    return (
        f"{path} is neither a folder here nor reachable on the hub; give model.path=<folder>, or download it first "
        f"({shorten(text, LONGEST)})."
    )

