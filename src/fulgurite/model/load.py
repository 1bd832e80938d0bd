"""Loading a causal language model and its tokenizer from a folder or the hub: data only, never code, never a pickle."""

from __future__ import annotations

import contextlib
import logging
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    dynamic_module_utils,
)
from transformers.utils import logging as transformers_logging

from fulgurite.errors import FulguriteError, ModelError, is_shortage
from fulgurite.model import config as c
from fulgurite.model.preflight import NO_SAFETENSORS, how_to_allow, locate, refuse_incomplete
from fulgurite.model.validate import suspects
from fulgurite.say import bounded

LONGEST = 600
"""The most characters of another library's message; the middle of a longer one is left out, so that its remedy stays."""
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


def load(path: str | Path, config: c.Model, dtype: torch.dtype, revision: str | None = None, code: bool = False) -> Loaded:
    """Load from `path` (a folder or hub id), and run its Python if `code`. Raises ModelError in one sentence with the remedy."""
    transformers_logging.disable_progress_bar()
    folder = locate(path, revision, code)
    with one_error(path):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=code, local_files_only=True)
        model, info = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, attn_implementation=str(config.attention), use_safetensors=True, trust_remote_code=code,
            local_files_only=True, output_loading_info=True, ignore_mismatched_sizes=True,  # they are refused by name below
        )
    refuse_incomplete(path, info)
    return loaded(model, tokenizer, config.add_tokens)


def outline(path: str | Path, revision: str | None = None, code: bool = False) -> tuple[PretrainedConfig, PreTrainedTokenizerBase]:
    """What `load` reads before the weights. Raises ModelError as it does."""
    folder = locate(path, revision, code, weights=False)
    with one_error(path):
        shape = AutoConfig.from_pretrained(folder, trust_remote_code=code, local_files_only=True)
        return shape, AutoTokenizer.from_pretrained(folder, trust_remote_code=code, local_files_only=True)


@contextlib.contextmanager
def one_error(path: str | Path, what: str = "a causal language model") -> Iterator[None]:
    """Turns whatever another library raises on a foreign folder into one ModelError; a lack of memory stays what it is."""
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
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    limits = {
        "max_position_embeddings": getattr(model.config.get_text_config(), "max_position_embeddings", None),
        "model_max_length": tokenizer.model_max_length,
    }
    return Loaded(model, tokenizer, min(_positions(name, limit) for name, limit in limits.items() if limit is not None))


def _positions(name: str, limit: Any) -> int:
    """A limit of the input's length as a number. Raises ModelError."""
    if not isinstance(limit, int | float) or not math.isfinite(limit) or limit < 1:
        raise ModelError(f"The model's folder: field '{name}': expected a number of tokens, found {limit!r:.60}; correct it.")
    return int(limit)


@torch.no_grad()
def add_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, words: list[str]) -> None:
    """Make each word one token; its embeddings, at both ends, begin as the mean of those that were there.

    transformers' own resizing draws them at random around the mean. `model.new_token_ids` tells methods which they are.
    Raises ModelError for a word that is a token already.
    """
    known = tokenizer.get_vocab()
    for word in words:
        if word in known or words.count(word) > 1 or not word.strip():
            raise ModelError(f"model.add_tokens: {word!r} is a token already; leave it out.")
    before = len(tokenizer)
    tokenizer.add_tokens(words)
    ids = tokenizer.convert_tokens_to_ids(words)
    rows = model.get_input_embeddings().weight.shape[0]
    if max(ids) >= rows:
        model.resize_token_embeddings(max(ids) + 1, mean_resizing=False)
    for ends in (model.get_input_embeddings(), model.get_output_embeddings()):
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
            return f"{path}/config.json: field '{found['field']}': {bounded(found['reason'], LONGEST)}; correct it, or download it again."
        clear = isinstance(error, OSError | ValueError | ImportError) and " " in text
        said = text if clear else CLASS.sub("config.json:", f"{type(error).__name__}: {text}")
        said = bounded(said, LONGEST) + ("" if clear else suspects(path))
        return f"{path} cannot be loaded as {what}: {said}"
    return (
        f"{path} is neither a folder here nor reachable on the hub; give model.path=<folder>, or download it first "
        f"({bounded(text, LONGEST)})."
    )

