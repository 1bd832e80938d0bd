"""Which model is trained, where it comes from, and what of it may be trusted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from fulgurite.schema import Empty, Option, at_least, knob, option

if TYPE_CHECKING:
    from fulgurite.run import RunConfig


class Attention(StrEnum):
    """The implementation of attention."""

    sdpa = "sdpa"
    eager = "eager"
    flash_attention_2 = "flash_attention_2"


@dataclass(slots=True)
class Model(Option):
    """What every model has."""

    attention: Attention = knob(
        Attention.sdpa, "The implementation of attention; all give the same numbers.",
        source="transformers docs, attention interface; sdpa is torch's own",
        advice="flash_attention_2 on recent GPUs, where its package is installed.",
    )

    add_tokens: list[str] = knob(
        [], "Words that become one token each; their embeddings begin as the mean of all others, and are trained.",
        source="transformers docs, resize_token_embeddings; the mean: Hewitt, https://nlp.stanford.edu/~johnhew/vocab-expansion.html",
        advice="For marks of your own format. A few hundred examples of each, or they stay the mean.",
    )

    def billions(self) -> float | None:
        """The size in billions of parameters, or None where it is not known before loading."""
        return None

    def refusal(self, run: RunConfig) -> str | None:
        """Why new tokens would stay untrained, in one sentence, or None."""
        if not self.add_tokens or run.method.new_tokens or "embeddings" in getattr(run.method, "also", []):
            return None
        return f"model.add_tokens needs their embeddings trained, and method={run.method.name} freezes them; take lora, qlora or full."


@option("model", "smollm2_135m")
@dataclass(slots=True)
class SmolLM2(Model):
    """SmolLM2-135M-Instruct, the bundled real model: trains on a laptop's CPU. For first runs and tests of real behaviour."""

    builds: ClassVar[str] = "fulgurite.model.smollm2:build"

    def billions(self) -> float | None:
        return 0.135


@option("model", "tiny")
@dataclass(slots=True)
class Tiny(Model):
    """A random Llama with a tokenizer trained on the spot, seconds to make. For tests: it knows nothing."""

    builds: ClassVar[str] = "fulgurite.model.tiny:build"

    hidden: int = knob(64, "The width.", source="Ours", bounds=at_least(8), usual=(32, 64, 128), advice="Leave it.")
    layers: int = knob(2, "The number of layers.", source="Ours", bounds=at_least(1), usual=(2, 4), advice="Leave it.")
    vocabulary: int = knob(512, "The tokenizer's size.", source="Ours", bounds=at_least(300), usual=(512, 1024), advice="Leave it.")
    length: int = knob(1024, "The longest input in tokens.", source="Ours", bounds=at_least(32), usual=(1024,), advice="Leave it.")

    def billions(self) -> float | None:
        return 1e-4


@option("model", "hf")
@dataclass(slots=True)
class Hf(Model):
    """Any causal language model that transformers loads: a folder, an export of a run, or a hub id."""

    builds: ClassVar[str] = "fulgurite.model.hf:build"

    path: str = knob(
        "", "The model: a folder, or a hub id such as HuggingFaceTB/SmolLM2-360M-Instruct.",
        source="transformers docs, from_pretrained", advice="Only safetensors are read: a pickle can run code.",
    )
    revision: str | None = knob(
        None, "The commit of the hub repository.", source="transformers docs, from_pretrained",
        advice="Pin it: a branch can change under you.", empty=Empty("the main branch"),
    )
    trust_remote_code: bool = knob(
        False, "Whether Python code from the model's repository may run here.",
        source="CVE-2026-4944 and its kin: remote code is someone else's program on your machine",
        advice="Leave it false; true needs model.revision as a full commit.",
    )

    def billions(self) -> float | None:
        return _billions(Path(self.path) / "config.json")


def _billions(config_json: Path) -> float | None:
    """An estimate from the config's widths, good to some 20 %: enough to choose a learning rate's column."""
    try:
        config = json.loads(config_json.read_text(encoding="utf-8"))
        width, layers = config["hidden_size"], config["num_hidden_layers"]
        inner, vocabulary = config.get("intermediate_size") or 4 * width, config["vocab_size"]
        return float(layers * (4 * width * width + 3 * width * inner) + vocabulary * width) / 1e9
    except (OSError, ValueError, KeyError, TypeError):
        return None
