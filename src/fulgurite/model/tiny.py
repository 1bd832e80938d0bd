"""`model=tiny`: a Llama with random weights and a small tokenizer, the same on every machine."""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from fulgurite.errors import ConfigError
from fulgurite.model import config as c
from fulgurite.model.load import Loaded, loaded
from fulgurite.model.tiny_tokenizer import read_tokenizer

SEED = 7


def outline(config: c.Tiny) -> tuple[LlamaConfig, PreTrainedTokenizerFast]:
    """Returns the model's config and its tokenizer."""
    if config.hidden % 8:
        raise ConfigError(
            "model.hidden={hidden} is not allowed: four heads of an even width need a multiple of 8, such as 64.",
            hidden=config.hidden,
        )
    words = read_tokenizer(config)
    shape = LlamaConfig(
        vocab_size=len(words),
        hidden_size=config.hidden,
        intermediate_size=2 * config.hidden,
        num_hidden_layers=config.layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=config.length,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
        attn_implementation=str(config.attention),
    )
    return shape, words


def build(config: c.Tiny, dtype: torch.dtype) -> Loaded:
    """Builds the model in `dtype`; its weights depend on the config only, not on the run's seed or random state."""
    shape, words = outline(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = LlamaForCausalLM(shape)
    return loaded(model.to(dtype=dtype), words, config.add_tokens)
