"""Loading a causal language model and its tokenizer from a folder or the hub: data only, never code, never a pickle."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from fulgurite.errors import ModelError, is_shortage
from fulgurite.model import config as c

COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(slots=True)
class Loaded:
    """A model in the asked dtype, on the CPU, with its tokenizer and the longest input it was made for."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    length: int


def load(path: str | Path, config: c.Model, dtype: torch.dtype, **more: Any) -> Loaded:
    """Load from `path` (a folder or hub id). Raises ModelError in one sentence with the remedy."""
    transformers_logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, **more)
        model = AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, attn_implementation=str(config.attention), use_safetensors=True, **more
        )
    except (OSError, ValueError, ImportError, KeyError, RuntimeError, SafetensorError) as error:
        if is_shortage(error):
            raise
        raise ModelError(_sentence(path, error)) from error
    return loaded(model, tokenizer, config.add_tokens)


def outline(path: str | Path, **more: Any) -> tuple[PretrainedConfig, PreTrainedTokenizerBase]:
    """What `load` reads before the weights. Raises ModelError as it does."""
    try:
        return AutoConfig.from_pretrained(path, **more), AutoTokenizer.from_pretrained(path, **more)
    except (OSError, ValueError, ImportError, KeyError, RuntimeError) as error:
        raise ModelError(_sentence(path, error)) from error


def loaded(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, new_tokens: list[str]) -> Loaded:
    """What the rest of the house takes: no cache in training, a padding token, new tokens, the longest input."""
    if new_tokens:
        add_tokens(model, tokenizer, new_tokens)
    model.config.use_cache = False
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    limits = [getattr(model.config.get_text_config(), "max_position_embeddings", None), tokenizer.model_max_length]
    return Loaded(model, tokenizer, min(int(n) for n in limits if n is not None))


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


def _sentence(path: str | Path, error: Exception) -> str:
    text = " ".join(str(error).split())
    if "safetensors" in text and ("not have" in text or "no file named" in text or "use_safetensors" in text):
        return f"{path} has no safetensors; a pickle (.bin, .pt) can run code and is not read: convert it with transformers first."
    if "trust_remote_code" in text or "custom code" in text:
        return f"{path} wants to run its own Python code; read it, then set model.trust_remote_code=true and pin model.revision."
    if isinstance(path, Path) or Path(path).exists():
        return f"{path} cannot be loaded as a causal language model: {text[:200]}"
    return f"{path} is neither a folder here nor reachable on the hub; give model.path=<folder>, or download it first ({text[:120]})."


def refuse_code(config: c.Hf) -> dict[str, Any]:
    """The arguments that let remote code run: none, unless it was asked for with a pinned commit, or ModelError."""
    more: dict[str, Any] = {"revision": config.revision} if config.revision else {}
    if config.trust_remote_code:
        if not config.revision or not COMMIT.fullmatch(config.revision):
            raise ModelError("model.trust_remote_code=true needs model.revision=<full commit of 40 digits>: a branch can change under you.")
        more["trust_remote_code"] = config.trust_remote_code
    return more
