"""`model=tiny`: a random Llama and a tokenizer trained on the spot, the same on every machine for a seed."""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from fulgurite.errors import ConfigError
from fulgurite.model import config as c
from fulgurite.model.load import Loaded, loaded
from fulgurite.model.tiny_tokenizer import read_tokenizer

SEED = 7


def outline(config: c.Tiny) -> tuple[LlamaConfig, PreTrainedTokenizerFast]:
    """The model's shape and its tokenizer."""
    if config.hidden % 8:
        raise ConfigError(
            f"model.hidden={config.hidden} is not allowed: four heads of an even width want a multiple of 8, such as "
            f"64."
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
    """The model in `dtype`; its weights depend on the config alone, not on the run's seed or what was drawn before."""
    shape, words = outline(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = LlamaForCausalLM(shape)
    return loaded(model.to(dtype=dtype), words, config.add_tokens)
