"""Models from their configs, from folders, and of architectures by name."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig

from fulgurite.config.compose import compose
from fulgurite.config.run import RunConfig
from fulgurite.config.schema import build
from fulgurite.model.config import Attention, Hf, Model
from fulgurite.model.load import Loaded
from fulgurite.model.twin import shrink_sizes
from fulgurite.plan.context import ModelFacts
from fulgurite.plan.meta_model import outline_model
from fulgurite.precision.policy import build as settle


@functools.cache
def _compose_base() -> RunConfig:
    return compose(["model=tiny"]).run


def outline_folder(folder: Path) -> tuple[Loaded, ModelFacts]:
    """What a plan reads of a folder, without weights."""
    run = dataclasses.replace(_compose_base(), model=Hf(path=str(folder)))
    found: tuple[Loaded, ModelFacts] = outline_model(run, settle(run.precision, "cpu"))
    return found


def load_model(config: Model) -> Loaded:
    """The model of a config in float32."""
    loaded: Loaded = build(config, torch.float32)
    return loaded


def load_folder(
    folder: Path,
    *,
    attention: str = "sdpa",
    revision: str | None = None,
    code: bool = False,
    tokens: tuple[str, ...] = (),
) -> Loaded:
    """The model of a folder in float32, as `model=hf` loads it."""
    return load_model(
        Hf(
            path=str(folder), attention=Attention(attention), revision=revision, trust_remote_code=code,
            add_tokens=list(tokens),
        )
    )


def shrink_config(kind: str, **values: Any) -> PreTrainedConfig:
    """A config of widths that run in milliseconds; `values` go before."""
    found = shrink_sizes(AutoConfig.for_model(kind))
    for name, value in values.items():
        setattr(found, name, value)
    return found


def build_architecture(kind: str, **values: Any) -> Any:
    """A small model of one of transformers' architectures, for evaluation."""
    torch.manual_seed(0)
    config = shrink_config(kind, **values)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
