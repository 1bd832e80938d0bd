"""The dtype that an export is written in, and what rounding the weights to it does."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from fulgurite.config.export_arguments import ExportDtype
from fulgurite.errors import RequestError
from fulgurite.model.config import Model
from fulgurite.run.load import find_base

WRITTEN = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_written_dtype(asked: ExportDtype | None, model: Model) -> torch.dtype:
    """The dtype to write: the one asked for, else the base's own."""
    return WRITTEN[str(asked)] if asked is not None else find_base_dtype(model)


def find_base_dtype(model: Model) -> torch.dtype:
    """Returns the dtype in which the base of `model` is stored; float32 if it is unknown, or not one of an export.

    Of a run and of an adapter it is that of their base. As in transformers' dtype="auto", config.json counts first.
    """
    base = find_base(model)
    if not base.outlines:
        return torch.float32
    module, _, function = base.outlines.partition(":")
    shape, _ = getattr(importlib.import_module(module), function)(base)
    folder = base.folder()
    found = str(getattr(shape, "dtype", None) or _of_file(folder)).removeprefix("torch.")
    return WRITTEN.get(found, torch.float32)


def _of_file(folder: Path | None) -> torch.dtype | None:
    """The dtype of the first weights in a folder."""
    for file in sorted(folder.glob("*.safetensors")) if folder is not None and folder.is_dir() else []:
        try:
            with safe_open(file, "pt") as opened:
                name = next(iter(opened.keys()), None)
                return opened.get_tensor(name).dtype if name is not None else None
        except (OSError, SafetensorError):
            continue
    return None


@torch.no_grad()
def cast(model: nn.Module, dtype: torch.dtype) -> None:
    """Cast parameters and saved buffers in place; ties stay. Buffers that no file holds, as of rotary positions,
    stay as they are.

    Raises RequestError if a number is too large for `dtype`.
    """
    saved = set(model.state_dict())
    tensors: list[tuple[str, Any]] = [
        *model.named_parameters(),
        *((n, b) for n, b in model.named_buffers() if n in saved),
    ]
    for name, tensor in tensors:
        if tensor.is_floating_point() and tensor.dtype != dtype:
            tensor.data = rounded(name, tensor.data, dtype)


def rounded(name: str, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The tensor in `dtype`. Raises RequestError if a finite number would become infinite."""
    found = tensor.to(dtype)
    if not bool(torch.isfinite(found).all()) and bool(torch.isfinite(tensor).all()):
        short = str(dtype).removeprefix("torch.")
        raise RequestError(
            "{name} contains {value:.3g}, which is too large for {dtype}; export with dtype=bfloat16 or float32.",
            name=name, value=float(tensor.abs().max()), dtype=short,
        )
    return found
