"""`model=hf`: any causal language model that transformers loads, from a folder or the hub."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from fulgurite.errors import ModelError
from fulgurite.model import config as c
from fulgurite.model.load import Loaded, load
from fulgurite.model.load import outline as outline_at
from fulgurite.model.validate import check_folder


def build(config: c.Hf, dtype: torch.dtype, reward: bool = False) -> Loaded:
    """Loads the model in `dtype`; with `reward` a reward model is loaded with its head.

    Raises ModelError if nothing can be loaded from `config.path`.
    """
    return load(_place(config), config, dtype, config.revision, config.trust_remote_code, reward)


def outline(config: c.Hf) -> tuple[PretrainedConfig, PreTrainedTokenizerBase]:
    """Returns the model's config and its tokenizer, also for a reward model. Raises ModelError as `build` does."""
    return outline_at(_place(config), config.revision, config.trust_remote_code)


def _place(config: c.Hf) -> str | Path:
    """Returns the folder or hub id that transformers can load a model from. Raises ModelError if there is none."""
    if not config.path:
        raise ModelError(
            "model=hf needs model.path=<folder or hub id>, such as model.path=HuggingFaceTB/SmolLM2-360M-Instruct."
        )
    folder = Path(config.path).expanduser()
    c.refuse_no_model(folder)
    if folder.is_dir():
        check_folder(folder)
    return folder if folder.is_dir() else config.path
