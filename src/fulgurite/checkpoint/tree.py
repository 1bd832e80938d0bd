"""Converts a checkpoint's tree of values into plain JSON and named tensors, and back, exactly and without pickle.

Plain values stay as they are; a value that JSON cannot represent becomes an object whose key "~" names its type.
Alternatives: torch.save and torch.distributed.checkpoint (pickle inside both), msgpack-numpy (no torch dtypes).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fulgurite.checkpoint.shards import TensorPart
from fulgurite.checkpoint.stored import StoredTensor
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


def encode(value: Any, place: str, tensors: dict[str, Any]) -> Any:
    """Returns `value` as JSON; adds its tensors, parts of tensors and arrays to `tensors`, under names made from their
    place.

    Tensors are added detached, dense and on the CPU. Raises CheckpointError for a type that only pickle could store.
    """
    # types are compared exactly: a subclass has state of its own that would be lost
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        # repr() of a float is read back to the same bits; JSON has no infinity and no NaN.
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
    # A part of another dtype is refused below: `_store` would keep its bytes, which have no rows.
    if kind is TensorPart and value.rows.dtype in STORED:
        name = _choose_name(place, tensors)
        tensors[name] = make_dense_part(value, place)
        return {TAG: "tensor", "name": name}
    if isinstance(value, np.ndarray | np.generic) and value.dtype.name in NUMBERS and value.dtype.isnative:
        # A scalar of numpy is stored as an array of no dimensions, and taken out of it again.
        tag = "array" if isinstance(value, np.ndarray) else "scalar"
        return {TAG: tag, **_store(torch.from_numpy(np.array(value, order="C")), place, tensors)}
    detail = f" ({value.dtype})" if isinstance(value, np.ndarray | np.generic) else ""
    raise CheckpointError(
        "{place} is a {kind}, which a checkpoint without pickle cannot store; use "
        "numbers, text, lists, dicts or tensors.",
        place=place, kind=f"{kind.__module__}.{kind.__qualname__}{detail}",
    )


def _encode_mapping(value: Mapping[Any, Any], place: str, tensors: dict[str, Any]) -> Any:
    ordered = type(value) is OrderedDict
    # JSON turns number keys into text and has no order of its own: other dictionaries are lists of pairs.
    if not ordered and all(type(key) is str for key in value) and TAG not in value:
        return {key: encode(item, f"{place}.{key}", tensors) for key, item in value.items()}
    for key in value:
        if type(key) not in (str, int):
            raise CheckpointError(
                "{place} has the key {key!r} of type {kind}; use text or a whole number.",
                place=place, key=key, kind=type(key).__name__,
            )
    items = [[key, encode(item, f"{place}.{key}", tensors)] for key, item in value.items()]
    return {TAG: "ordered" if ordered else "dict", "items": items}


def make_dense(tensor: Tensor, place: str) -> Tensor:
    """Returns the tensor detached, on the CPU and contiguous. Raises CheckpointError for a sparse, quantized or meta
    one."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        kind = "quantized" if tensor.is_quantized else "meta" if tensor.is_meta else str(tensor.layout)
        raise CheckpointError(
            "{place} is a {kind} tensor, which a checkpoint cannot store; make it dense first.", place=place, kind=kind
        )
    return tensor.detach().cpu().contiguous()


def make_dense_part(part: TensorPart, place: str) -> TensorPart:
    """Returns the part with dense rows on the CPU. Raises CheckpointError as `make_dense` does."""
    return replace(part, rows=make_dense(part.rows, place))


def _choose_name(place: str, tensors: Mapping[str, Any]) -> str:
    """Returns the place, or with a number: two can have the same text, such as the keys 1 and "1" of a dictionary."""
    name, number = place, 2
    while name in tensors:
        name, number = f"{place}#{number}", number + 1
    return name


def _store(tensor: Tensor, place: str, tensors: dict[str, Any]) -> dict[str, Any]:
    name = _choose_name(place, tensors)
    whole = make_dense(tensor, place)
    # safetensors has no name for some dtypes, such as complex128: their bytes are stored, and the dtype beside them
    if whole.dtype in STORED:
        tensors[name] = whole
        return {"name": name}
    # A complex tensor as pairs of reals, which `_fetch` reads back as such.
    flat = (torch.view_as_real(whole) if whole.is_complex() else whole).reshape(-1)
    tensors[name] = flat.view(torch.uint8)
    return {"name": name, "dtype": str(whole.dtype).removeprefix("torch."), "shape": list(whole.shape)}


def decode(value: Any, tensors: Mapping[str, Any]) -> Any:
    """Returns the value that `encode` was given. Raises CheckpointError if a tensor or a type is unknown.

    A StoredTensor of `tensors` stays in its file if it was a tensor with dimensions, and is read otherwise.
    """
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
        if isinstance(tensor, StoredTensor):
            # Numbers and numpy's arrays are read at once: code that restores them expects values.
            if kind == "tensor" and tensor.ndim:
                return tensor
            tensor = tensor.read()
        # [()] makes a scalar of an array without dimensions.
        return tensor if kind == "tensor" else tensor.numpy() if kind == "array" else tensor.numpy()[()]
    raise CheckpointError(
        "The checkpoint contains a value of the unknown type {kind!r}; use the version of fulgurite that wrote it.",
        kind=kind,
    )


def _fetch(value: Mapping[str, Any], tensors: Mapping[str, Any]) -> Any:
    try:
        tensor = tensors[value["name"]]
    except KeyError:
        raise CheckpointError(
            "The checkpoint lacks the tensor {name!r}, without which the run cannot be resumed exactly; use an earlier "
            "checkpoint.",
            name=value.get("name"),
        ) from None
    if "dtype" not in value:
        return tensor
    if isinstance(tensor, StoredTensor):
        tensor = tensor.read()
    dtype = getattr(torch, value["dtype"])
    if dtype.is_complex:
        # complex64 has a name in safetensors, so these two are left.
        real = torch.float64 if dtype == torch.complex128 else torch.float16
        return torch.view_as_complex(tensor.view(real).reshape(*value["shape"], 2))
    return tensor.view(dtype).reshape(value["shape"])
