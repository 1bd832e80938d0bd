"""Which model is trained, where it comes from, and what of it may be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from fulgurite.config.confidence import Sure
from fulgurite.config.guard import Allowed
from fulgurite.config.paths import resolve_path
from fulgurite.config.schema import Empty, Option, at_least, find_option, knob, list_knobs, list_options, option
from fulgurite.files.json import read_object
from fulgurite.model.validate import MOST_PARAMETERS

if TYPE_CHECKING:
    from fulgurite.config.run import RunConfig


CANNOT_SPEAK = (
    "{} is a reward model or classifier, which cannot speak; train it on with stage=rm, learn from an rm run with "
    "stage.reward=[<its folder>], or start from the model that it was trained from."
)


class Attention(StrEnum):
    """The implementation of attention."""

    sdpa = "sdpa"
    eager = "eager"


@dataclass(slots=True)
class Model(Option):
    """What every model has."""

    outlines: ClassVar[str] = ""
    """"module:function" of the config: transformers' config and the tokenizer, without weights. Empty where only the
    weights tell."""

    tokenizes: ClassVar[str] = ""
    """"module:function" of the config: the tokenizer alone, without importing model code, or None if that cannot be.
    Only of a model that its parameters and our own files determine: `plan` keeps its outline."""

    attention: Attention = knob(
        Attention.sdpa, "The implementation of attention; all give the same numbers.",
        source="transformers docs, attention interface; sdpa is torch's own",
        advice="Leave it; eager for a model that torch's own attention does not serve.",
        memory="eager keeps the whole table of attention: the square of the length.",
        time="sdpa is quicker on long rows.",
    )

    add_tokens: list[str] = knob(
        [], "Words that become one token each; their embeddings begin as the mean of all others, and are trained.",
        source=(
            "transformers docs, resize_token_embeddings; the mean: Hewitt, "
            "https://nlp.stanford.edu/~johnhew/vocab-expansion.html"
        ),
        advice="For marks of your own format. A few hundred examples of each, or they stay the mean.",
    )

    toy: ClassVar[bool] = False
    """Whether it knows nothing: a run of it is a trial, of which taste is no reason to refuse."""
    hub: ClassVar[str] = ""
    """The hub id of a bundled model, by which another machine finds it."""
    takes_reward: ClassVar[bool] = False
    """Whether it may be a reward model or a classifier of one label: `builds` then takes `reward`."""

    def folder(self) -> Path | None:
        """The folder, or the hub id as a path, that the model is loaded from; None if it is made here."""
        return None

    def base_name(self) -> str | None:
        """How an adapter names its base for another machine; None if no other machine has it."""
        return self.hub or None

    def allowed(self) -> Allowed:
        """What the model's own parameters allow; it holds for the base under a run or an adapter too."""
        return Allowed()

    def billions(self) -> float | None:
        """The size in billions of parameters, or None where it is not known before loading."""
        return None

    def find_refusal(self, run: RunConfig) -> str | None:
        """Why new tokens would stay untrained, in one sentence, or None."""
        if not self.add_tokens or run.method.new_tokens or "embeddings" in getattr(run.method, "extra_trainable", []):
            return None
        return (
            f"model.add_tokens needs their embeddings trained, and method={run.method.name} freezes them; take lora, "
            f"qlora or full."
        )


@option("model", "smollm2_135m")
@dataclass(slots=True)
class SmolLM2(Model):
    """SmolLM2-135M-Instruct, the bundled real model: trains on a laptop's CPU. For first runs and tests of real
    behaviour."""

    builds: ClassVar[str] = "fulgurite.model.smollm2:build"
    outlines: ClassVar[str] = "fulgurite.model.smollm2:outline"
    tokenizes: ClassVar[str] = "fulgurite.model.smollm2:read_tokenizer"
    hub: ClassVar[str] = "HuggingFaceTB/SmolLM2-135M-Instruct"
    costs: ClassVar[str] = "Half a gigabyte in fp32."

    def billions(self) -> float | None:
        return 0.135


@option("model", "tiny")
@dataclass(slots=True)
class Tiny(Model):
    """A random Llama with a tokenizer trained on the spot, seconds to make. For tests: it knows nothing."""

    builds: ClassVar[str] = "fulgurite.model.tiny:build"
    outlines: ClassVar[str] = "fulgurite.model.tiny:outline"
    tokenizes: ClassVar[str] = "fulgurite.model.tiny_tokenizer:read_tokenizer"
    toy: ClassVar[bool] = True
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
    takes_reward: ClassVar[bool] = True
    costs: ClassVar[str] = "What the model weighs: 2 bytes a weight frozen in bf16."

    path: str = knob(
        "",
        "The model: a folder, an earlier run's folder, an export of one, or a hub id such as "
        "HuggingFaceTB/SmolLM2-360M-Instruct.",
        source="transformers docs, from_pretrained; of a run the best checkpoint, its adapter merged in float32 (ours)",
        advice="Only safetensors are read: a pickle can run code. A run's folder must stay where it is while later "
        "runs begin from it. "
        "stage=rm also starts from a reward model or a classifier of one label, and trains its head on.",
        resolve=resolve_path,
    )
    revision: str | None = knob(
        None,
        "The commit of the hub repository; of a folder whose code may run, sha256: and the hash of that code.",
        source="transformers docs, from_pretrained",
        advice="Pin it: a branch can change under you.",
        empty=Empty("the main branch"),
    )
    trust_remote_code: bool = knob(
        False, "Whether Python code from the model's repository may run here.",
        source="CVE-2026-4944 and its kin: remote code is someone else's program on your machine",
        advice="Leave it false; true needs model.revision: a full commit, or a folder's hash, which the error names.",
        sure=Sure.practice,
        leave="It lets a stranger's program run here.",
    )

    def folder(self) -> Path | None:
        return Path(self.path).expanduser() if self.path else None

    def base_name(self) -> str | None:
        return self.path

    def allowed(self) -> Allowed:
        return Allowed(model_code=self.trust_remote_code, revision=self.revision)

    def billions(self) -> float | None:
        return _folder_billions(Path(self.path).expanduser(), frozenset())

    def find_refusal(self, run: RunConfig) -> str | None:
        """A reward model cannot speak, so that only another one can begin from it."""
        folder = Path(self.path).expanduser()
        if not run.stage.gives_rewards and _was_reward_model(folder):
            return CANNOT_SPEAK.format(f"model.path={self.path}")
        return None


def _was_reward_model(folder: Path) -> bool:
    """Whether the folder is of a run whose stage declares that it gives rewards."""
    stage = find_option("stage", _inside(_json(folder / "provenance.json"), "choices").get("stage"))
    return bool(getattr(stage, "gives_rewards", False))


def _json(path: Path) -> dict[str, Any]:
    """A JSON object, or an empty one where there is none."""
    try:
        return read_object(path)
    except (OSError, ValueError):
        return {}


def _inside(found: dict[str, Any], name: str) -> dict[str, Any]:
    """The object under a name, or an empty one if there is none."""
    inner = found.get(name)
    return inner if isinstance(inner, dict) else {}


def _folder_billions(folder: Path, seen: frozenset[Path]) -> float | None:
    """The size of the model in a folder: a run's, an adapter's, or a model's own. None for a ring of folders."""
    if folder.absolute() in seen:
        return None
    seen |= {folder.absolute()}
    if (folder / "provenance.json").is_file():
        return _run_billions(folder / "provenance.json", seen)
    if (folder / "adapter_config.json").is_file():
        return _adapter_billions(folder, seen)
    return _billions(folder / "config.json")


def _run_billions(provenance: Path, seen: frozenset[Path]) -> float | None:
    """The size of the model that an earlier run was of."""
    said = _json(provenance)
    knobs = _inside(said, "knobs")
    chosen = list_options("model").get(str(_inside(said, "choices").get("model", "")))
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
    """The size of the model that an adapter names as its base, where that is the bundled one or a folder here."""
    base = _json(folder / "adapter_config.json").get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        return None
    if base.endswith("SmolLM2-135M-Instruct"):
        return SmolLM2().billions()
    return _folder_billions(Path(base).expanduser(), seen)


def _billions(config_json: Path) -> float | None:
    """An estimate from the config's widths, good to some 20 %: enough to choose a learning rate's column."""
    config = _json(config_json)
    width, layers, vocabulary = (config.get(name) for name in ("hidden_size", "num_hidden_layers", "vocab_size"))
    inner = config.get("intermediate_size") or (4 * width if isinstance(width, int) else None)
    if not (
        isinstance(width, int) and isinstance(layers, int) and isinstance(vocabulary, int) and isinstance(inner, int)
    ):
        return None
    parameters = layers * (4 * width * width + 3 * width * inner) + vocabulary * width
    return parameters / 1e9 if parameters <= MOST_PARAMETERS else None
