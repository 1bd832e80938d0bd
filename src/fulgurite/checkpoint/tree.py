"""A checkpoint's tree of values as plain JSON and named tensors, and back, exactly. No pickle, so no code.

Plain values stay themselves; what JSON cannot hold becomes an object with the key "~" that says what it is. Looked at
before writing this: torch.save, torch.distributed.checkpoint (pickle inside both), msgpack-numpy (no torch dtypes).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fulgurite.errors import CheckpointError

TAG = "~"
STORED = frozenset({
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32,
    torch.uint64, torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64,
    torch.float8_e4m3fn, torch.float8_e5m2,
})
"""Dtypes that safetensors names; others are stored as their bytes."""
NUMBERS = frozenset({
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64", "complex64", "complex128",
})
"""numpy's dtypes that torch has as well."""


def encode(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    """`value` as JSON; its tensors and arrays are added to `tensors` under names made from their place.

    Tensors are put in detached, dense and on the CPU. Raises CheckpointError for a type that only pickle could hold.
    """
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {TAG: "float", "value": repr(value)}
    if kind is list:
        return [encode(item, f"{place}[{i}]", tensors) for i, item in enumerate(value)]
    if kind in (tuple, torch.Size):
        items = [encode(item, f"{place}[{i}]", tensors) for i, item in enumerate(value)]
        return {TAG: "tuple" if kind is tuple else "size", "items": items}
    if kind in (dict, OrderedDict):
        return _encode_mapping(value, place, tensors)
    if kind in (Tensor, torch.nn.Parameter):
        return {TAG: "tensor", **_store(value, place, tensors)}
    if isinstance(value, np.ndarray | np.generic) and value.dtype.name in NUMBERS and value.dtype.isnative:
        tag = "array" if isinstance(value, np.ndarray) else "scalar"
        return {TAG: tag, **_store(torch.from_numpy(np.array(value, order="C")), place, tensors)}
    detail = f" of {value.dtype}" if isinstance(value, np.ndarray | np.generic) else ""
    raise CheckpointError(
        f"{place} is a {kind.__module__}.{kind.__qualname__}{detail}, which a checkpoint without pickle cannot hold; "
        "give it as numbers, text, lists, dicts or tensors."
    )


def _encode_mapping(value: Mapping[Any, Any], place: str, tensors: dict[str, Tensor]) -> Any:
    ordered = type(value) is OrderedDict
    if not ordered and all(type(key) is str for key in value) and TAG not in value:
        return {key: encode(item, f"{place}.{key}", tensors) for key, item in value.items()}
    for key in value:
        if type(key) not in (str, int):
            kind = type(key).__name__
            raise CheckpointError(f"{place} has the key {key!r}, a {kind}; make it text or a whole number.")
    items = [[key, encode(item, f"{place}.{key}", tensors)] for key, item in value.items()]
    return {TAG: "ordered" if ordered else "dict", "items": items}


def make_dense(tensor: Tensor, place: str) -> Tensor:
    """The tensor detached, on the CPU and contiguous. Raises CheckpointError for a sparse, quantized or empty one."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        kind = "quantized" if tensor.is_quantized else "empty (meta)" if tensor.is_meta else str(tensor.layout)
        raise CheckpointError(f"{place} is a {kind} tensor, which a checkpoint cannot hold; make it dense first.")
    return tensor.detach().cpu().contiguous()


def _store(tensor: Tensor, place: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    name, number = place, 2
    while name in tensors:
        name, number = f"{place}#{number}", number + 1
    whole = make_dense(tensor, place)
    if whole.dtype in STORED:
        tensors[name] = whole
        return {"name": name}
    flat = (torch.view_as_real(whole) if whole.is_complex() else whole).reshape(-1)
    tensors[name] = flat.view(torch.uint8)
    return {"name": name, "dtype": str(whole.dtype).removeprefix("torch."), "shape": list(whole.shape)}


def decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The inverse of `encode`. Raises CheckpointError where a tensor or a kind is not known."""
    if isinstance(value, list):
        return [decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if TAG not in value:
        return {key: decode(item, tensors) for key, item in value.items()}
    kind = value[TAG]
    if kind == "float":
        return float(value["value"])
    if kind in ("tuple", "size"):
        items = tuple(decode(item, tensors) for item in value["items"])
        return items if kind == "tuple" else torch.Size(items)
    if kind in ("dict", "ordered"):
        pairs = [(key, decode(item, tensors)) for key, item in value["items"]]
        return dict(pairs) if kind == "dict" else OrderedDict(pairs)
    if kind in ("tensor", "array", "scalar"):
        tensor = _fetch(value, tensors)
        return tensor if kind == "tensor" else tensor.numpy() if kind == "array" else tensor.numpy()[()]
    raise CheckpointError(f"The checkpoint holds a value of the unknown kind {kind!r}; use the version that wrote it.")


def _fetch(value: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Tensor:
    try:
        tensor = tensors[value["name"]]
    except KeyError:
        name = value.get("name")
        raise CheckpointError(f"The checkpoint has no tensor {name!r}: this would not be the same run.") from None
    if "dtype" not in value:
        return tensor
    dtype = getattr(torch, value["dtype"])
    if dtype.is_complex:
        real = torch.float64 if dtype == torch.complex128 else torch.float16
        return torch.view_as_complex(tensor.view(real).reshape(*value["shape"], 2))
    return tensor.view(dtype).reshape(value["shape"])
