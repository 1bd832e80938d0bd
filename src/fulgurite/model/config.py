"""Models: the one to train, its source, and whether its code may run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from fulgurite.config.confidence import Sure
from fulgurite.config.described import DescribedEnum
from fulgurite.config.guard import Allowed
from fulgurite.config.paths import resolve_path
from fulgurite.config.schema import Empty, Option, at_least, find_option, knob, list_knobs, list_options, option
from fulgurite.errors import ModelError
from fulgurite.files.json import read_object
from fulgurite.language.message import UserMessage, message
from fulgurite.model.validate import MOST_PARAMETERS

if TYPE_CHECKING:
    from fulgurite.config.run import RunConfig


def describe_reward_model(place: object) -> UserMessage:
    """Returns the refusal of a reward model from which another stage than rm would start."""
    return message(
        "{place} is a reward model or classifier, which cannot generate text; train it further with stage=rm, use it "
        "as "
        "a reward with stage.reward=[<its folder>], or start from the model that it was trained from.",
        place=place,
    )


def refuse_no_model(folder: Path) -> None:
    """Raises ModelError if a folder exists and is no model: an adapter, a run, or without config.json."""
    if (folder / "adapter_config.json").is_file():
        raise ModelError(
            "{folder} is an adapter, not a whole model; merge it first: `fulgurite export run=<its run> out=<folder>`.",
            folder=folder,
        )
    if (folder / "config.yaml").is_file() and (folder / "checkpoints").is_dir():
        raise ModelError(
            "{folder} is a run, not a model; export it first: fulgurite export run={folder} out=<folder>.",
            folder=folder,
        )
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ModelError(
            "{folder} has no config.json; give a folder that save_pretrained or `fulgurite export` wrote.",
            folder=folder,
        )


class Attention(DescribedEnum):
    """The implementation of attention."""

    sdpa = "sdpa", "PyTorch's fused attention: faster, and it keeps no attention scores in memory."
    eager = "eager", "Plain matrix products: slower, and memory grows with the square of the length."


@dataclass(slots=True)
class Model(Option):
    """Base of all models."""

    outlines: ClassVar[str] = ""
    """"module:function" that returns transformers' config and the tokenizer without weights. Empty if these need the
    weights."""

    tokenizes: ClassVar[str] = ""
    """"module:function" of the config: the tokenizer alone, without importing model code, or None if that cannot be.
    Only of a model that its parameters and our own files determine: `plan` keeps its outline."""

    attention: Attention = knob(
        Attention.sdpa, "Implementation of attention; all compute the same function.",
        source="transformers docs, attention interface; sdpa is torch's own",
        advice="sdpa; eager for a model that torch's own attention does not support.",
        memory="eager stores the whole attention matrix: the square of the length.",
        time="sdpa is faster on long sequences.",
    )

    add_tokens: list[str] = knob(
        [], "Words that become one new token each. Their embeddings start as the mean of all others, and are trained.",
        source=(
            "transformers docs, resize_token_embeddings; the mean: Hewitt, "
            "https://nlp.stanford.edu/~johnhew/vocab-expansion.html"
        ),
        advice="For the marks of your own format. Each needs a few hundred examples, or it stays near the mean.",
    )

    toy: ClassVar[bool] = False
    """Whether it has random weights: a run of it is a trial, which no rule about quality refuses."""
    hub: ClassVar[str] = ""
    """The hub id of a bundled model, for another machine."""
    licence: ClassVar[str] = ""
    """The licence of a bundled model, by the hub's name for it."""
    takes_reward: ClassVar[bool] = False
    """Whether it can be a reward model or a classifier with one label: `builds` then takes `reward`."""

    def folder(self) -> Path | None:
        """Returns the folder, or the hub id as a path, that the model is loaded from; None if it is made here."""
        return None

    def base_name(self) -> str | None:
        """Returns the name that an adapter gives its base for another machine; None if no other machine has it."""
        return self.hub or None

    def allowed(self) -> Allowed:
        """Returns what the model's own parameters allow, also for the base of a run or an adapter."""
        return Allowed()

    def billions(self) -> float | None:
        """Returns the size in billions of parameters, or None if it is not known before loading."""
        return None

    def find_refusal(self, run: RunConfig) -> UserMessage | None:
        """Refuses new tokens whose embeddings the method does not train."""
        if not self.add_tokens or run.method.new_tokens or "embeddings" in getattr(run.method, "extra_trainable", []):
            return None
        return message(
            "model.add_tokens adds embeddings that must be trained, and method={method} freezes them; use method=lora, "
            "qlora or full.",
            method=run.method.name,
        )


@option("model", "smollm2_135m")
@dataclass(slots=True)
class SmolLM2(Model):
    """SmolLM2-135M-Instruct, the bundled model: trains on the CPU of a laptop. For first runs and realistic tests."""

    builds: ClassVar[str] = "fulgurite.model.smollm2:build"
    outlines: ClassVar[str] = "fulgurite.model.smollm2:outline"
    tokenizes: ClassVar[str] = "fulgurite.model.smollm2:read_tokenizer"
    hub: ClassVar[str] = "HuggingFaceTB/SmolLM2-135M-Instruct"
    licence: ClassVar[str] = "apache-2.0"
    costs: ClassVar[str] = "Half a gigabyte in fp32."

    def billions(self) -> float | None:
        return 0.135


@option("model", "tiny")
@dataclass(slots=True)
class Tiny(Model):
    """A Llama with random weights and a small tokenizer, built in seconds. For tests: it knows nothing."""

    builds: ClassVar[str] = "fulgurite.model.tiny:build"
    outlines: ClassVar[str] = "fulgurite.model.tiny:outline"
    tokenizes: ClassVar[str] = "fulgurite.model.tiny_tokenizer:read_tokenizer"
    toy: ClassVar[bool] = True
    costs: ClassVar[str] = "Seconds."

    hidden: int = knob(
        64, "Width: the hidden size.", source="Ours", bounds=at_least(8), usual=(32, 64, 128), advice="Leave it.",
        leave="A model for tests: nobody asks it anything.",
    )
    layers: int = knob(
        2, "Number of layers.", source="Ours", bounds=at_least(1), usual=(2, 4), advice="Leave it.",
        leave="A model for tests: nobody asks it anything.",
    )
    vocabulary: int = knob(
        512, "Size of the vocabulary.", source="Ours", bounds=at_least(300), usual=(512, 1024), advice="Leave it.",
        leave="A model for tests: nobody asks it anything.",
    )
    length: int = knob(
        1024, "Longest input, in tokens.", source="Ours", bounds=at_least(32), usual=(1024,), advice="Leave it.",
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
    takes_reward: ClassVar[bool] = True
    costs: ClassVar[str] = "The size of the model: 2 bytes per frozen weight in bf16."

    path: str = knob(
        "",
        "The model: a model folder, the folder of an earlier run, its export, or a hub id such as "
        "HuggingFaceTB/SmolLM2-360M-Instruct.",
        source="transformers docs, from_pretrained; of a run the best checkpoint, its adapter merged in float32 (ours)",
        advice="Only safetensors are read, because a pickle can run code. Keep the folder of a run while later runs "
        "start from it. stage=rm also starts from a reward model or a classifier with one label, and keeps its head.",
        resolve=resolve_path,
    )
    revision: str | None = knob(
        None,
        "Commit of the hub repository; for a folder whose code may run, sha256: and the hash of that code.",
        source="transformers docs, from_pretrained",
        advice="Pin it: a branch can change under you.",
        empty=Empty("the main branch"),
    )
    trust_remote_code: bool = knob(
        False, "Whether Python code from the model's repository may run.",
        source="CVE-2026-4944 and others: remote code is someone else's program on your machine",
        advice="Leave it false. true needs model.revision: a full commit, or the hash of a folder, which the error "
        "prints.",
        sure=Sure.practice,
        leave="It lets a program of somebody else run on your machine.",
    )

    def folder(self) -> Path | None:
        return Path(self.path).expanduser() if self.path else None

    def base_name(self) -> str | None:
        return self.path

    def allowed(self) -> Allowed:
        return Allowed(model_code=self.trust_remote_code, revision=self.revision)

    def billions(self) -> float | None:
        return _folder_billions(Path(self.path).expanduser(), frozenset())

    def find_refusal(self, run: RunConfig) -> UserMessage | None:
        """Refuses a reward model unless the run trains one too: it cannot generate text."""
        folder = Path(self.path).expanduser()
        if not run.stage.gives_rewards and _was_reward_model(folder):
            return describe_reward_model(f"model.path={self.path}")
        return None


def _was_reward_model(folder: Path) -> bool:
    """Returns whether the folder is that of a run whose stage trains a reward model."""
    stage = find_option("stage", _inside(_json(folder / "provenance.json"), "choices").get("stage"))
    return bool(getattr(stage, "gives_rewards", False))


def _json(path: Path) -> dict[str, Any]:
    """Returns the JSON object of a file, or an empty one if there is none."""
    try:
        return read_object(path)
    except (OSError, ValueError):
        return {}


def _inside(found: dict[str, Any], name: str) -> dict[str, Any]:
    """Returns the object under a name, or an empty one if there is none."""
    inner = found.get(name)
    return inner if isinstance(inner, dict) else {}


def _folder_billions(folder: Path, seen: frozenset[Path]) -> float | None:
    """Returns the size of the model of a run's, an adapter's or a model's folder. None for a ring of folders."""
    if folder.absolute() in seen:
        return None
    seen |= {folder.absolute()}
    if (folder / "provenance.json").is_file():
        return _run_billions(folder / "provenance.json", seen)
    if (folder / "adapter_config.json").is_file():
        return _adapter_billions(folder, seen)
    return _billions(folder / "config.json")


def _run_billions(provenance: Path, seen: frozenset[Path]) -> float | None:
    """Returns the size of the model of an earlier run."""
    recorded = _json(provenance)
    knobs = _inside(recorded, "knobs")
    chosen = list_options("model").get(str(_inside(recorded, "choices").get("model", "")))
    if chosen is None:
        return None
    if issubclass(chosen, Hf):
        path = _inside(knobs, "model.path").get("value")
        return _folder_billions(Path(path).expanduser(), seen) if isinstance(path, str) else None
    given = {
        k.name: _inside(knobs, f"model.{k.name}").get("value") for k in list_knobs(chosen) if f"model.{k.name}" in knobs
    }
    model: Model = chosen(**given)  # type: ignore[assignment]
    return model.billions()


def _adapter_billions(folder: Path, seen: frozenset[Path]) -> float | None:
    """Returns the size of an adapter's base model, if that is the bundled one or a local folder."""
    base = _json(folder / "adapter_config.json").get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        return None
    if base.endswith("SmolLM2-135M-Instruct"):
        return SmolLM2().billions()
    return _folder_billions(Path(base).expanduser(), seen)


def _billions(config_json: Path) -> float | None:
    """Estimates the size from the config, within about 20 %: enough to choose the column of a learning rate."""
    config = _json(config_json)
    width, layers, vocabulary = (config.get(name) for name in ("hidden_size", "num_hidden_layers", "vocab_size"))
    inner = config.get("intermediate_size") or (4 * width if isinstance(width, int) else None)
    if not (
        isinstance(width, int) and isinstance(layers, int) and isinstance(vocabulary, int) and isinstance(inner, int)
    ):
        return None
    parameters = layers * (4 * width * width + 3 * width * inner) + vocabulary * width
    return parameters / 1e9 if parameters <= MOST_PARAMETERS else None
