"""Small tokenizers trained on the spot, and data files made of a few records."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

CORPUS = [
    "What is the capital of France? Paris is the capital of France.\n\nUSER: Hello there. ASSISTANT: Hello, how can I "
    "help you?\n\n",
    "### Instruction:\nName a colour.\n\n### Response:\nBlue is a colour, and so is red.\n\n user assistant system "
    "tool model \n\n\n",
    "You are a helpful assistant that answers briefly. Below is an instruction that describes a task. 0 1 2 3 4 5 6 7 "
    "8 9 \n \n",
]
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| "
    r"?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Llama 3 cuts text before it merges: line breaks in a row always stay together, which GPT-2's cut does not do."""
MakeTokenizer = Callable[..., PreTrainedTokenizerFast]


@pytest.fixture(scope="session")
def make_tokenizer() -> MakeTokenizer:
    """`make(marks, start=False, llama3=False)`: a byte-level BPE of 400 tokens with `<s>`, `</s>` and `marks`.

    With `start` it puts `<s>` first; with `llama3` it cuts text as Llama 3 does, else as GPT-2.
    """

    def make(marks: Sequence[str] = (), start: bool = False, llama3: bool = False) -> PreTrainedTokenizerFast:
        raw = Tokenizer(models.BPE())
        raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        if llama3:
            cut = pre_tokenizers.Split(Regex(LLAMA3), "isolated")
            raw.pre_tokenizer = pre_tokenizers.Sequence([cut,
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        raw.decoder = decoders.ByteLevel()
        special = ["<s>", "</s>", *marks]
        raw.train_from_iterator(CORPUS, trainers.BpeTrainer(
            vocab_size=400, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ))
        if start:
            raw.post_processor = processors.TemplateProcessing(
                single="<s> $A", special_tokens=[("<s>", raw.token_to_id("<s>"))]
            )
        made = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="</s>")
        if marks:
            made.add_special_tokens({"additional_special_tokens": list(marks)})
        return made

    return make


@pytest.fixture
def tokenizer(make_tokenizer: MakeTokenizer) -> PreTrainedTokenizerFast:
    """A tokenizer with the marks of chatml and no template of its own."""
    return make_tokenizer(["<|im_start|>", "<|im_end|>"])


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, Any], Path]:
    """`write(name, records)`: a file of records, as its ending says; bytes and text are written as they are."""

    def put(name: str, content: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, str):
            path.write_bytes(content.encode("utf-8"))
        elif name.endswith(".jsonl"):
            path.write_text("".join(json.dumps(r) + "\n" for r in content), encoding="utf-8")
        else:
            path.write_text(json.dumps(content), encoding="utf-8")
        return path

    return put
