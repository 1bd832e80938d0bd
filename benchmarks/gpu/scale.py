"""The sizes of a run of the table, and the models that it makes from them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from benchmarks.flops import settle_peak
from fulgurite.model.flops import Shape


@dataclass(frozen=True)
class Scale:
    """Shapes of the models, and the work of a row."""

    medium: Shape
    """The model whose memory is measured."""
    large: Shape
    """The model whose speed is measured."""
    length: int
    """Tokens of a row in the speed rows."""
    micro_batch: int
    micro_batches: int
    """Micro-batches of an optimizer step."""
    steps: int
    """Optimizer steps of a speed row; the first `WARMUP` are not counted."""
    product: int
    """The size of the square product that measures the device."""


WARMUP = 2
GPU = Scale(
    medium=Shape(hidden=960, layers=32, intermediate=2560, heads=15, kv_heads=5, vocab=49152),  # 0.36 billion
    large=Shape(hidden=2048, layers=16, intermediate=8192, heads=32, kv_heads=8, vocab=128256),  # 1.24 billion
    length=2048, micro_batch=4, micro_batches=2, steps=10, product=8192,
)
TINY = Scale(
    medium=Shape(hidden=64, layers=2, intermediate=128, heads=4, kv_heads=2, vocab=1024),
    large=Shape(hidden=64, layers=2, intermediate=128, heads=4, kv_heads=2, vocab=1024),
    length=48, micro_batch=2, micro_batches=2, steps=4, product=64,
)


@dataclass
class Bench:
    """What a row is given: the sizes, the device, and a folder for models, data and runs."""

    scale: Scale
    device: str
    folder: Path

    @cached_property
    def peak(self) -> float:
        """The device's bf16 operations a second."""
        return float(settle_peak(self.device, self.scale.product)["peak"])

    def make_model(self, shape: Shape) -> Path:
        """Returns a folder with a model of random bf16 weights and a small tokenizer; it is made once."""
        folder = self.folder / f"model-{shape.hidden}-{shape.layers}-{shape.vocab}"
        if (folder / "tokenizer.json").is_file():
            return folder
        from transformers import LlamaConfig, LlamaForCausalLM

        from fulgurite.model.tiny_tokenizer import tokenizer

        words = tokenizer(512)
        config = LlamaConfig(
            vocab_size=shape.vocab, hidden_size=shape.hidden, intermediate_size=shape.intermediate,
            num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
            max_position_embeddings=4096, tie_word_embeddings=True, bos_token_id=None,
            eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id,
        )
        torch.manual_seed(0)
        with torch.device(self.device):
            model = LlamaForCausalLM(config)
        model.to(torch.bfloat16).save_pretrained(folder)
        words.model_max_length = 4096
        words.save_pretrained(folder)
        return folder

    def make_data(self, stage: str) -> list[str]:
        """Returns the words that give a stage its data."""
        if stage in ("pt", "kto"):
            path = self.folder / f"{stage}.jsonl"
            path.write_text("".join(json.dumps(self._make_record(stage, n)) + "\n" for n in range(40)))
            return ["data=file", f"data.path={path}"]
        if stage in ("rm", "dpo"):
            return ["data=guide_preference"]
        if stage in ("ppo", "grpo"):
            return ["data=guide_prompts"]
        return ["data=guide"]

    def _make_record(self, stage: str, number: int) -> dict[str, object]:
        answer = "The rate rises, then it falls. " * (1 + number % 4)
        if stage == "pt":
            return {"text": f"Document {number}. {answer}"}
        return {"prompt": f"What is {number}?", "completion": answer, "label": number % 2 == 0}
