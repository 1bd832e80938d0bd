"""Which model is trained, where it comes from, and what of it may be trusted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from fulgurite.schema import Empty, Option, Sure, at_least, knob, knobs_of, option, options

if TYPE_CHECKING:
    from fulgurite.run import RunConfig


class Attention(StrEnum):
    """The implementation of attention."""

    sdpa = "sdpa"
    eager = "eager"


@dataclass(slots=True)
class Model(Option):
    """What every model has."""

    outlines: ClassVar[str] = ""
    """"module:function" of the config: transformers' config and the tokenizer, without weights. Empty where only the weights tell."""

    attention: Attention = knob(
        Attention.sdpa, "The implementation of attention; all give the same numbers.",
        source="transformers docs, attention interface; sdpa is torch's own",
        advice="Leave it; eager for a model that torch's own attention does not serve.",
        memory="eager keeps the whole table of attention: the square of the length.",
        time="sdpa is quicker on long rows.",
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
    outlines: ClassVar[str] = "fulgurite.model.smollm2:outline"
    costs: ClassVar[str] = "Half a gigabyte in fp32."

    def billions(self) -> float | None:
        return 0.135


@option("model", "tiny")
@dataclass(slots=True)
class Tiny(Model):
    """A random Llama with a tokenizer trained on the spot, seconds to make. For tests: it knows nothing."""

    builds: ClassVar[str] = "fulgurite.model.tiny:build"
    outlines: ClassVar[str] = "fulgurite.model.tiny:outline"
    costs: ClassVar[str] = "Seconds."

    hidden: int = knob(
        64, "The width.", source="Ours", bounds=at_least(8), usual=(32, 64, 128), advice="Leave it.",
        leave="A model for tests: nobody asks it anything.",
    )
    layers: int = knob(
        2, "The number of layers.", source="Ours", bounds=at_least(1), usual=(2, 4), advice="Leave it.",
        leave="A model for tests: nobody asks it anything.",
    )
    vocabulary: int = knob(
        512, "The tokenizer's size.", source="Ours", bounds=at_least(300), usual=(512, 1024), advice="Leave it.",
        leave="A model for tests: nobody asks it anything.",
    )
    length: int = knob(
        1024, "The longest input in tokens.", source="Ours", bounds=at_least(32), usual=(1024,), advice="Leave it.",
        leave="A model for tests: nobody asks it anything.",
    )

    def billions(self) -> float | None:
        return 1e-4


@option("model", "hf")
@dataclass(slots=True)
class Hf(Model):
    """Any causal language model that transformers loads: a folder, a run, an export of a run, or a hub id."""

    builds: ClassVar[str] = "fulgurite.model.hf:build"
    outlines: ClassVar[str] = "fulgurite.model.hf:outline"
    costs: ClassVar[str] = "What the model weighs: 2 bytes a weight frozen in bf16."

    path: str = knob(
        "", "The model: a folder, an earlier run's folder, an export of one, or a hub id such as HuggingFaceTB/SmolLM2-360M-Instruct.",
        source="transformers docs, from_pretrained; of a run the best checkpoint, its adapter merged in float32 (ours)",
        advice="Only safetensors are read: a pickle can run code. A run's folder must stay where it is while later runs begin from it.",
    )
    revision: str | None = knob(
        None, "The commit of the hub repository.", source="transformers docs, from_pretrained",
        advice="Pin it: a branch can change under you.", empty=Empty("the main branch"),
    )
    trust_remote_code: bool = knob(
        False, "Whether Python code from the model's repository may run here.",
        source="CVE-2026-4944 and its kin: remote code is someone else's program on your machine",
        advice="Leave it false; true needs model.revision as a full commit.",
        sure=Sure.practice,
        leave="It lets a stranger's program run here.",
    )

    def billions(self) -> float | None:
        folder = Path(self.path).expanduser()
        if (folder / "provenance.json").is_file():
            return _run_billions(folder / "provenance.json")
        if (folder / "adapter_config.json").is_file():
            return _adapter_billions(folder / "adapter_config.json")
        return _billions(folder / "config.json")

    def refusal(self, run: RunConfig) -> str | None:
        """A reward model cannot speak, so that nothing can begin from it."""
        folder = Path(self.path).expanduser()
        if _json(folder / "provenance.json").get("choices", {}).get("stage") == "rm":
            return f"model.path={self.path} is the run of a reward model, which cannot speak; start from the model it was trained from."
        return None


def _json(path: Path) -> dict[str, Any]:
    """A JSON object, or an empty one where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _run_billions(provenance: Path) -> float | None:
    """The size of the model that an earlier run was of."""
    said = _json(provenance)
    knobs = said.get("knobs", {})
    chosen = options("model").get(said.get("choices", {}).get("model", ""))
    if chosen is None:
        return None
    given = {k.name: knobs[f"model.{k.name}"]["value"] for k in knobs_of(chosen) if f"model.{k.name}" in knobs}
    model: Model = chosen(**given)  # type: ignore[assignment]
    return model.billions()


def _adapter_billions(adapter: Path) -> float | None:
    """The size of the model that an adapter names as its base, where that is the bundled one or a folder here."""
    base = _json(adapter).get("base_model_name_or_path") or ""
    if base.endswith("SmolLM2-135M-Instruct"):
        return SmolLM2().billions()
    return Hf(path=base).billions() if base else None


def _billions(config_json: Path) -> float | None:
    """An estimate from the config's widths, good to some 20 %: enough to choose a learning rate's column."""
    try:
        config = json.loads(config_json.read_text(encoding="utf-8"))
        width, layers = config["hidden_size"], config["num_hidden_layers"]
        inner, vocabulary = config.get("intermediate_size") or 4 * width, config["vocab_size"]
        return float(layers * (4 * width * width + 3 * width * inner) + vocabulary * width) / 1e9
    except (OSError, ValueError, KeyError, TypeError):
        return None
