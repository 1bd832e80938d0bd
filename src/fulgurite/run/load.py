"""Loads the model that training, export and chat begin with: a named model, an earlier run with its trained weights,
or an export."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from fulgurite.checkpoint.read import read_weights
from fulgurite.checkpoint.resume import INPUTS
from fulgurite.checkpoint.weights import list_trained_names
from fulgurite.config.guard import Allowed
from fulgurite.config.run import RunConfig
from fulgurite.config.schema import build
from fulgurite.config.stored import rebuild_run
from fulgurite.data.template import Template, load_template
from fulgurite.errors import CheckpointError, ModelError, is_shortage
from fulgurite.language.library_errors import translate_error
from fulgurite.language.message import message
from fulgurite.method.adapters import load_adapter
from fulgurite.method.config import Method
from fulgurite.method.peft_import import import_peft
from fulgurite.model.classifier import has_head
from fulgurite.model.config import Hf, Model, SmolLM2, describe_reward_model
from fulgurite.model.load import Form, Loaded, loaded, raise_one_error
from fulgurite.model.reward_head import add_reward_head, get_head
from fulgurite.model.safety import check_adapter
from fulgurite.model.smollm2 import HUB
from fulgurite.precision.config import Fp32
from fulgurite.precision.policy import Dtypes
from fulgurite.precision.policy import build as settle
from fulgurite.run.folder import read_config
from fulgurite.run.input_hashes import find_changed_inputs
from fulgurite.run.sources import choose_checkpoint, is_run, read_adapter_base
from fulgurite.text.console import say
from fulgurite.trainer.device import device

CHANGED = {
    "weights": message("its weights"), "model_config": message("its config.json"),
    "tokenizer": message("its tokenizer"), "adapter": INPUTS["adapter"],
    "start": message("the checkpoint that training began from"),
}
"""The inputs that `find_changed_inputs` names, for the warning."""


@dataclass(slots=True)
class LoadedRun:
    """The model of a run with its trained weights."""

    run: RunConfig
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    template: Template
    dtypes: Dtypes
    checkpoint: Path


def load_start(model: Model, method: Method, reward: bool, dtypes: Dtypes) -> Loaded:
    """Loads the model that a run's method is applied to; with `reward` it has its own reward head, or one of zeros.

    Raises ModelError.
    """
    found = load_named(model, dtypes.trained if method.loads_trained else dtypes.frozen, reward)
    if reward:
        found.model = add_reward_head(found.model)
    return found


def apply_method(method: Method, reward: bool, found: Loaded, dtypes: Dtypes) -> PreTrainedModel:
    """Applies the method of a run to the model; with `reward` its head is trained fully, whatever the method."""
    import_peft()
    model: PreTrainedModel = build(method, found.model, dtypes)
    release_memory()
    if reward:
        # Last, because a method freezes all that it does not train.
        head = get_head(model)
        head.to(dtypes.trained)
        head.requires_grad_(True)
    return model


def release_memory() -> None:
    """Returns the memory that loading and quantising have freed to the system: glibc keeps it in fragments that are
    useless for training.

    Measured: QLoRA of the bundled model at 512 tokens peaks at 1,475 MB with it, at 1,697 MB without. Does nothing
    without glibc.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def load_named(model: Model, dtype: torch.dtype, reward: bool = False) -> Loaded:
    """Loads the model that `model=` names, in `dtype`; of a run or an exported adapter the base with the adapter merged
    into it.

    With `reward` it may be a reward model, which keeps its head; without, one is refused. Merging is done in float32,
    whatever `dtype`. Raises ModelError.
    """
    folder = model.folder()
    if folder is not None and is_run(folder):
        found = _load_run_model(folder, get_allowed(model), reward)
    elif folder is not None and (folder / "adapter_config.json").is_file():
        found = _load_adapter(folder, get_allowed(model), reward)
    else:
        plain: Loaded = build(model, dtype, **({"reward": reward} if model.takes_reward else {}))
        return plain
    found.model.set_attn_implementation(str(model.attention))
    found.model.to(dtype=dtype)
    found.model.requires_grad_(True)
    return found


def find_base(model: Model) -> Model:
    """Returns the base of a run or an adapter that `model=` names, else the model itself. Raises ModelError."""
    folder = model.folder()
    if folder is not None and is_run(folder):
        return find_base(rebuild_run(read_config(folder), get_allowed(model), folder).model)
    if folder is not None and (folder / "adapter_config.json").is_file():
        return find_base(find_adapter_base(read_adapter_base(folder), get_allowed(model)))
    return model


def get_allowed(model: Model) -> Allowed:
    """Returns the permissions of the command line's `model.*` words, which also apply to the base of a run or an
    adapter."""
    return model.allowed()


def find_adapter_base(name: str, allowed: Allowed) -> Model:
    """Returns the model that an adapter names as its base."""
    return SmolLM2() if name == HUB else Hf(path=name, trust_remote_code=allowed.model_code, revision=allowed.revision)


def _load_run_model(folder: Path, allowed: Allowed, reward: bool) -> Loaded:
    run = load_run(folder, exact=True, allowed=allowed)
    if run.run.stage.gives_rewards and not reward:
        raise ModelError(describe_reward_model(folder))
    return loaded(merge_trained(run.model), run.tokenizer, [])


def _load_adapter(folder: Path, allowed: Allowed, reward: bool) -> Loaded:
    base_name = read_adapter_base(folder)
    head = has_head(folder, check_adapter(folder), reward)
    with raise_one_error(folder, Form.adapter):
        # Merged in float32: in 16 bits the small update would be rounded away in part.
        base = load_named(find_adapter_base(base_name, allowed), torch.float32, reward)
        if head:
            base.model = add_reward_head(base.model)
        model, tokenizer = merge_trained(load_adapter(base.model, folder)), base.tokenizer
        if (folder / "tokenizer_config.json").is_file():
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    return loaded(model, tokenizer, [])


def merge_trained(model: Any) -> PreTrainedModel:
    """Returns the model with its adapter, if it has one, merged into its weights."""
    merged: PreTrainedModel = model.merge_and_unload(safe_merge=True) if hasattr(model, "merge_and_unload") else model
    if hasattr(merged, "peft_config"):  # peft leaves it behind, and would take the next adapter for a second one
        del merged.peft_config
    return merged


def load_run(folder: Path, checkpoint: str = "best", exact: bool = False, allowed: Allowed | None = None) -> LoadedRun:
    """Loads the model of a run's checkpoint (`best`, `last`, `step-N`); in float32 throughout if `exact`.

    Of the code that its config.yaml names, only the `allowed` part runs. Raises CheckpointError or RequestError if the
    run or the checkpoint is damaged.
    """
    read_config(folder)  # a damaged config is refused before a missing checkpoint
    place = choose_checkpoint(folder, checkpoint)
    weights = read_model_weights(place)
    found = begin_run(folder, place, exact, allowed)
    set_weights(found, weights, folder)
    return found


def read_model_weights(place: Path) -> dict[str, torch.Tensor]:
    """Returns the trained weights of the model in a checkpoint, by their names in the model. Raises CheckpointError."""
    # weights outside of the model (PPO's value head) are for training only
    return {
        name.removeprefix("model."): tensor for name, tensor in read_weights(place).items() if name.startswith("model.")
    }


def begin_run(folder: Path, place: Path, exact: bool = False, allowed: Allowed | None = None) -> LoadedRun:
    """Loads the model of a run as it was before training, with its method; `exact` and `allowed` as in `load_run`.

    Warns if its inputs have changed since the checkpoint `place` was written. Raises CheckpointError or ModelError.
    """
    run = rebuild_run(read_config(folder), allowed, folder)
    dtypes: Dtypes = settle(Fp32() if exact else run.precision, device(run.trainer))
    dtypes = replace(dtypes, plain_base=exact)
    _warn_of_changes(folder, place, run.model, run.method)
    with _explain_mismatch(place, folder):
        found = load_start(run.model, run.method, run.stage.gives_rewards, dtypes)
        template = load_template(run.data.template, found.tokenizer, run.data.arguments(), run.data.special_tokens)
        model = apply_method(run.method, run.stage.gives_rewards, found, dtypes)
    return LoadedRun(run, model.eval(), found.tokenizer, template, dtypes, place)


def set_weights(loaded: LoadedRun, weights: dict[str, torch.Tensor], folder: Path) -> None:
    """Gives the model of `begin_run` its trained weights. Raises CheckpointError if they are another model's."""
    model, place = loaded.model, loaded.checkpoint
    with _explain_mismatch(place, folder):
        # Frozen weights are not in a checkpoint: strict=False, and the trained names are compared by themselves.
        differ = set(model.load_state_dict(weights, strict=False).unexpected_keys) | (
            set(list_trained_names(model)) - set(weights)
        )
    if differ:
        raise CheckpointError(
            "{place} does not match {folder}/config.yaml: {name} is only in one of them ({count} names differ). One of "
            "them or the model's folder was changed; restore it.",
            place=place, folder=folder, name=min(differ), count=len(differ),
        )


@contextlib.contextmanager
def _explain_mismatch(place: Path, folder: Path) -> Iterator[None]:
    """Turns the error of other shapes, or of values that no declaration allows, into a CheckpointError."""
    try:
        yield
    except (RuntimeError, ValueError, TypeError) as error:
        if is_shortage(error):
            raise
        raise CheckpointError(
            "{place} does not match {folder}/config.yaml: {error}. One of them or the model's folder was changed; "
            "restore it.",
            place=place, folder=folder, error=translate_error(error),
        ) from error


def _warn_of_changes(folder: Path, place: Path, model: Model, method: Method) -> None:
    """Warns in one line if the base model of a run has changed since training: the answers would be another model's."""
    if found := find_changed_inputs(place, model, method):
        say(message(
            "warning: {model} has changed since {folder} was trained on it ({what}); restore it, or train again.",
            model=getattr(model, "path", None) or model.name, folder=folder,
            what=", ".join(str(CHANGED[name]) for name in found),
        ))
