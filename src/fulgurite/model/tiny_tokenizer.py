"""The tokenizer of `model=tiny`, trained on the spot. Imports no model code, which takes seconds."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from fulgurite.model import config as c

START, END, PAD = "<|im_start|>", "<|im_end|>", "<|pad|>"
CORPUS = (
    "The learning rate is the size of each step. A warmup lets the rate rise from zero, because the optimizer knows "
    "nothing "
    "at first. What should I set the rank to? Start at 16; raise it when the data teach something new. What is a "
    "schedule? "
    "The course of the rate over the run: it rises, stays, or falls along a line or half a cosine. When the loss lies "
    "flat, "
    "the rate is too low; when it jumps, the rate is too high, or the gradients are not clipped. A batch is made of "
    "several "
    "examples; small batches are noisy, large batches are slow to learn from. The model answers the user and then "
    "stops at "
    "the end of its turn. You are a helpful assistant. Please say how many epochs are enough for a small data set: "
    "two or "
    "three, and watch the validation loss, which should fall together with the training loss. Precision means how "
    "numbers "
    "are stored: in thirty-two bits, or in sixteen. Once upon a time there was a little model that wanted to speak as "
    "well "
    "as the large ones; it read many books, about houses and rivers, animals and numbers, and every day it understood "
    "more. "
    "user system assistant 0 1 2 3 4 5 6 7 8 9 10 20 50 100 1000 "
)


def tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE of at most `vocabulary` tokens with the chatml marks; any text round-trips."""
    from fulgurite.data.template import BUILT_IN

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.train_from_iterator(
        [CORPUS],
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=[PAD, START, END],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token=END, pad_token=PAD, additional_special_tokens=[START]
    )
    made.chat_template = BUILT_IN["chatml"]
    return made


def read_tokenizer(config: c.Tiny) -> PreTrainedTokenizerFast:
    """Returns the tokenizer of a config."""
    made = tokenizer(config.vocabulary)
    made.model_max_length = config.length
    return made
