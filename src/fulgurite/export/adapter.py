"""Exports an adapter without its base model, and loads it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from fulgurite.errors import RequestError
from fulgurite.export.dtype import rounded
from fulgurite.method.adapters import load_adapter
from fulgurite.method.config import Method
from fulgurite.method.qlora import quantise
from fulgurite.method.separate import describe_base_change
from fulgurite.model.config import Model
from fulgurite.model.peft_internals import ADAPTER
from fulgurite.run.load import LoadedRun, load_named


def refuse_apart(method: Method, model: Model) -> None:
    """Raises RequestError if the run has changed the base, without which the adapter is useless."""
    if (changed := describe_base_change(method, bool(model.add_tokens))) is not None:
        raise RequestError(
            "merge=false is not possible here: this run {changed}; export with merge=true.", changed=changed
        )


def write_adapter(model: Any, base: Model, out: Path) -> None:
    """The adapter's weights and its config, which names the base as another machine knows it."""
    kept = model.peft_config[ADAPTER]
    kept.base_model_name_or_path, kept.revision = base_name(base), getattr(base, "revision", None)
    # "auto" would ask the hub for the base's vocabulary; embeddings are never trained by an adapter.
    model.save_pretrained(out, save_embedding_layers=False)
    (out / "README.md").unlink(missing_ok=True)  # peft's form for a model card, all of it still to be filled in


def round_adapter(model: Any, out: Path, dtype: torch.dtype) -> None:
    """Round the adapter of a folder to `dtype`, and the model's adapter to the same numbers."""
    if dtype == torch.float32:
        return
    from peft import set_peft_model_state_dict

    file = out / "adapter_model.safetensors"
    whole = {name: rounded(name, tensor, dtype) for name, tensor in load_file(file).items()}
    save_file(whole, file, metadata={"format": "pt"})
    set_peft_model_state_dict(model, {name: tensor.float() for name, tensor in whole.items()})


def base_name(model: Model) -> str | None:
    """Returns the base model as another machine knows it: the path of the command line or the hub id, not the path of a
    cache."""
    return model.base_name()


def load_fresh_base(loaded: LoadedRun) -> PreTrainedModel:
    """The run's base as a stranger has it, in float32; with its 4 bits as ordinary numbers under qlora."""
    fresh = load_named(loaded.run.model, torch.float32, reward=loaded.run.stage.gives_rewards).model
    return quantise(loaded.run.method, fresh, loaded.dtypes).float() if loaded.run.method.quantised else fresh


def put_on(base: PreTrainedModel, folder: Path) -> Any:
    """The base under the adapter of a folder, as plain peft reads it."""
    return load_adapter(base, folder)
