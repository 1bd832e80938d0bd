"""What training, export and chat begin from: a model as it is named, an earlier run with its trained weights, or an export."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from fulgurite.checkpoint.folder import newest_whole
from fulgurite.checkpoint.io import read_weights
from fulgurite.checkpoint.weights import trained_names
from fulgurite.compose import rebuilt
from fulgurite.data.template import Template, resolve
from fulgurite.errors import CheckpointError, ModelError, is_shortage
from fulgurite.folder import read_config
from fulgurite.model.config import Hf, Model, SmolLM2
from fulgurite.model.load import Loaded, loaded, one_error
from fulgurite.model.reward_head import head_of, with_reward_head
from fulgurite.model.smollm2 import HUB
from fulgurite.model.validate import adapter_base, check_folder, read_checked
from fulgurite.precision.build import Dtypes
from fulgurite.precision.build import build as settle
from fulgurite.precision.config import Fp32
from fulgurite.run import RunConfig
from fulgurite.schema import build
from fulgurite.trainer.build import device


@dataclass(slots=True)
class LoadedRun:
    """A run's model with its trained weights, ready to answer."""

    run: RunConfig
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    template: Template
    dtypes: Dtypes
    checkpoint: Path


def start(run: RunConfig, dtypes: Dtypes) -> Loaded:
    """The model that the run's method is applied to; under a reward head of zeros in stage=rm. Raises ModelError."""
    found = named(run.model, dtypes.trained if run.method.loads_trained else dtypes.frozen)
    if run.stage.name == "rm":
        found.model = with_reward_head(found.model)
    return found


def applied(run: RunConfig, found: Loaded, dtypes: Dtypes) -> PreTrainedModel:
    """The model with the run's method; a reward head is trained whole, whatever the method."""
    model: PreTrainedModel = build(run.method, found.model, dtypes)
    give_back()
    if run.stage.name == "rm":
        head = head_of(model)
        head.to(dtypes.trained)
        head.requires_grad_(True)
    return model


def give_back() -> None:
    """Return to the system what loading and quantising have freed: glibc keeps holes that training would not fit into.

    Measured: QLoRA of the bundled model at 512 tokens peaks at 1,475 MB with it, at 1,697 MB without. Where there is no glibc, nothing.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def named(model: Model, dtype: torch.dtype) -> Loaded:
    """The model that `model=` names, in `dtype`; of a run or an adapter's export the base with what was learned merged into it.

    Merging is done in float32, whatever `dtype`. Raises ModelError.
    """
    folder = Path(model.path).expanduser() if isinstance(model, Hf) and model.path else None
    if folder is not None and is_run(folder):
        found = _of_run(folder)
    elif folder is not None and (folder / "adapter_config.json").is_file():
        found = _of_adapter(folder)
    else:
        plain: Loaded = build(model, dtype)
        return plain
    found.model.set_attn_implementation(str(model.attention))
    found.model.to(dtype=dtype)
    found.model.requires_grad_(True)
    return found


def base_of(model: Model) -> Model:
    """The model that `model=` rests on: of a run and of an adapter the base, else the model itself. Raises ModelError."""
    folder = Path(model.path).expanduser() if isinstance(model, Hf) and model.path else None
    if folder is not None and is_run(folder):
        return base_of(rebuilt(read_config(folder)).model)
    if folder is not None and (folder / "adapter_config.json").is_file():
        named_base = adapted_base(folder)
        return base_of(SmolLM2() if named_base == HUB else Hf(path=named_base))
    return model


def began_from(run: RunConfig) -> dict[str, str]:
    """What names the weights that a run begins from, where those are an earlier run's, which may go on: resuming holds them equal."""
    folder = Path(run.model.path).expanduser() if isinstance(run.model, Hf) and run.model.path else None
    if folder is None or not is_run(folder):
        return {}
    manifest = chosen(folder, "best") / "manifest.json"
    return {"start": hashlib.sha256(manifest.read_bytes()).hexdigest()[:32]}


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's."""
    return (folder / "config.yaml").is_file() and (folder / "checkpoints").is_dir()


def _of_run(folder: Path) -> Loaded:
    run = load_run(folder, exact=True)
    if run.run.stage.name == "rm":
        raise ModelError(f"{folder} is a reward model, which cannot speak; start from the model that it was trained from.")
    return loaded(_merged(run.model), run.tokenizer, [])


def adapted_base(folder: Path) -> str:
    """The folder or hub id of the model that an adapter is of. Raises ModelError where it names none, or is a reward model's."""
    if read_checked(folder / "adapter_config.json").get("task_type") == "SEQ_CLS":
        raise ModelError(f"{folder} is a reward model, which cannot speak; start from the model that it was trained from.")
    if not adapter_base(folder):
        raise ModelError(f"{folder} is an adapter that names no base model; give the run it is from, model.path=<run folder>.")
    return adapter_base(folder)


def _of_adapter(folder: Path) -> Loaded:
    from peft import PeftModel

    said = adapted_base(folder)
    check_folder(folder)
    with one_error(folder, "an adapter"):
        base = named(SmolLM2() if said == HUB else Hf(path=said), torch.float32)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, message=".*is_gradient_checkpointing.*")  # peft asks by the old name
            model = _merged(PeftModel.from_pretrained(base.model, folder))
        tokenizer = AutoTokenizer.from_pretrained(folder) if (folder / "tokenizer_config.json").is_file() else base.tokenizer
    return loaded(model, tokenizer, [])


def _merged(model: Any) -> PreTrainedModel:
    """The model with its adapter, where it has one, as part of its weights."""
    merged: PreTrainedModel = model.merge_and_unload(safe_merge=True) if hasattr(model, "merge_and_unload") else model
    if hasattr(merged, "peft_config"):  # left behind by peft, which would take the next adapter for a second one
        del merged.peft_config
    return merged


def load_run(folder: Path, checkpoint: str = "best", exact: bool = False) -> LoadedRun:
    """The model of a run's checkpoint (`best`, `last`, `step-N`); in float32 throughout where `exact`.

    Raises CheckpointError or RequestError where the run or the checkpoint is not whole.
    """
    run = rebuilt(read_config(folder))
    dtypes: Dtypes = settle(Fp32() if exact else run.precision, device(run.trainer))
    dtypes = replace(dtypes, plain_base=exact)
    place = chosen(folder, checkpoint)
    # what lies beside the model (PPO's value head) was for training only
    weights = {name.removeprefix("model."): tensor for name, tensor in read_weights(place).items() if name.startswith("model.")}
    try:
        found = start(run, dtypes)
        template = resolve(run.data.template, found.tokenizer, run.data.arguments(), run.data.special_tokens)
        model = applied(run, found, dtypes)
        differ = set(model.load_state_dict(weights, strict=False).unexpected_keys) | (set(trained_names(model)) - set(weights))
    except (RuntimeError, ValueError, TypeError) as error:  # shapes, or values that no declaration allows
        if is_shortage(error):
            raise
        said = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{place} does not fit {folder}/config.yaml: {said}; was it, or the model's folder, changed?") from error
    if differ:
        raise CheckpointError(
            f"{place} does not fit {folder}/config.yaml: {min(differ)} is in one alone ({len(differ)} names differ); "
            "was it, or the model's folder, changed?"
        )
    return LoadedRun(run, model.eval(), found.tokenizer, template, dtypes, place)


def chosen(folder: Path, checkpoint: str) -> Path:
    """The folder of a checkpoint by name; `best` falls back to the newest where nothing was evaluated."""
    place = folder / "checkpoints" / checkpoint
    if place.is_dir():
        return place
    newest, _ = newest_whole(folder / "checkpoints")
    if newest is None:
        raise CheckpointError(f"{folder} has no whole checkpoint yet; train it first, or `fulgurite runs` to see which have.")
    if checkpoint == "best":
        return newest
    there = ", ".join(sorted(p.name for p in place.parent.iterdir()))
    raise CheckpointError(f"{folder} has no checkpoint {checkpoint}; there are {there}.")
