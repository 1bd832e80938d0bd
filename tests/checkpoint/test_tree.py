"""A tree of values goes to JSON and tensors and comes back exactly; what only pickle could hold is refused by place."""

import json
import math
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from fulgurite.checkpoint import io, tree
from fulgurite.errors import CheckpointError


def there_and_back(value):
    """Through real JSON and real safetensors bytes."""
    tensors = {}
    text = json.dumps(tree.encode(value, "state", tensors), allow_nan=False)
    return tree.decode(json.loads(text), load(save(io._separate_storages(tensors))))


def same(a, b) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and bits(a) == bits(b)
    if isinstance(a, np.ndarray | np.generic):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return list(a) == list(b) and all(type(x) is type(y) and same(a[x], b[y]) for x, y in zip(a, b, strict=True))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    return a == b


def bits(tensor: torch.Tensor) -> bytes:
    flat = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    return flat.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


PLAIN = [
    None, True, False, 0, 1, -(2**70), 2**63, 1.0, 0.1, 1e-320, -0.0, math.inf, -math.inf, math.nan, 1e308,
    "", "text", "~", "žluťoučký 语 \0 \ud800", [], (), {}, [1, 1.0, True, "1"], (1, (2, [3, (4,)])),
    {"a": {"b": {}}, "c": [{}]}, {0: "int", "0": "text"}, {1: {2: {3: (None,)}}}, {"~": 1, "a": 2},
    OrderedDict(b=1, a=2), OrderedDict({0: OrderedDict()}), torch.Size([2, 3]), {"a.b": 1, "a": {"b": 2}},
]


@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_plain_values(value):
    assert same(there_and_back(value), value)


OTHERS = (torch.complex32, torch.complex128, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.float8_e8m0fnu)


@pytest.mark.parametrize("dtype", [*sorted(tree.STORED, key=str), *OTHERS], ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3)])
def test_tensors_of_each_dtype_and_shape(dtype, shape):
    numel = math.prod(shape)
    if dtype == torch.bool:
        value = torch.arange(numel).reshape(shape) % 2 == 0
    elif dtype == torch.complex32:
        value = torch.view_as_complex(torch.arange(2 * numel).reshape(*shape, 2).half())
    else:
        value = torch.arange(numel).reshape(shape).float().to(dtype)
    assert same(there_and_back({"x": [value]})["x"][0], value)


def test_special_numbers_inside_tensors_keep_their_bits():
    value = torch.tensor([math.nan, -math.nan, math.inf, -0.0, 1e-45])
    assert bits(there_and_back(value)) == bits(value)


def test_views_transposes_aliases_and_parameters():
    base = torch.arange(12.0)
    value = {"view": base[2:5], "transposed": base.reshape(3, 4).t(), "whole": base, "again": base,
             "parameter": torch.nn.Parameter(base.clone()), "step": torch.tensor(3.0)}
    back = there_and_back(value)
    assert all(torch.equal(back[k], value[k]) for k in value)
    assert type(back["parameter"]) is torch.Tensor


@pytest.mark.parametrize("name", sorted(tree.NUMBERS))
def test_numpy_arrays_and_scalars(name):
    array = np.arange(6).reshape(2, 3).astype(name)
    for value in (array, array.T, array[::-1], array[0, 0], np.array(array[1, 1]), array[:, :0]):
        back = there_and_back([value])[0]
        assert same(back, np.array(value, order="C") if isinstance(value, np.ndarray) else value)


def test_names_that_would_collide_do_not():
    value = {"a.b": torch.tensor(1), "a": {"b": torch.tensor(2)}}
    back = there_and_back(value)
    assert (back["a.b"], back["a"]["b"]) == (1, 2)


@pytest.mark.parametrize(("value", "words"), [
    (object(), "builtins.object"), (Path("x"), "Path"), ({1, 2}, "builtins.set"), (b"x", "builtins.bytes"),
    (defaultdict(int), "collections.defaultdict"), (lambda: 0, "function"), (torch.float32, "torch.dtype"),
    (1j, "complex"), (torch.device("cpu"), "torch.device"), (np.array(["x"]), "<U1"),
    (np.array([object()]), "object"), (np.arange(3, dtype=">i4"), ">i4"), (torch.nn.Linear(1, 1), "Linear"),
    (torch.eye(2).to_sparse(), "torch.sparse_coo tensor"), (torch.empty(2, device="meta"), r"meta tensor"),
])
def test_other_types_are_refused_with_their_place(value, words):
    with pytest.raises(CheckpointError, match=rf"state.a\[1\].b is a.*{words}"):
        tree.encode({"a": [0, {"b": value}]}, "state", {})


@pytest.mark.parametrize("key", [1.0, True, None, (1,)])
def test_other_keys_are_refused(key):
    with pytest.raises(CheckpointError, match=r"state.a has the key .*use text or a whole number"):
        tree.encode({"a": {key: 1}}, "state", {})


def test_a_tensor_that_is_not_there_and_a_kind_from_the_future():
    with pytest.raises(CheckpointError, match="lacks the tensor 'x'"):
        tree.decode({"~": "tensor", "name": "x"}, {})
    with pytest.raises(CheckpointError, match="unknown type 'set'"):
        tree.decode({"~": "set"}, {})
