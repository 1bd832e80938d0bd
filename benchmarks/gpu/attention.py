"""Rows of attention inside packed documents: torch's varlen_attn, a loop of sdpa, and sdpa with a mask of all tokens.

The result and the three gradients of each form are held against sdpa with the mask in float32.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.flops import synchronize
from benchmarks.gpu.scale import Bench
from benchmarks.gpu.training import Numbers, RowFailed, RowSkipped
from fulgurite.data.documents import Documents
from fulgurite.model.document_attention import DocumentMask, attend_at_once, attend_in_turn, takes_varlen

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
ROWS, HEADS, KEY_HEADS, REPEATS = 2, 32, 8, 5
ALLOWED = 0.02
"""The largest difference to float32, as a share of the largest number: bf16 has 8 bits, and sums are in float32."""


def compare_attention(bench: Bench, form: str) -> Numbers:
    """Returns the milliseconds of a forward and backward pass, and the largest difference to float32."""
    gpu = bench.device == "cuda"
    tokens, width = (4096, 64) if gpu else (32, 8)
    lengths = divide_rows(tokens)
    bounds = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()], dtype=torch.int32, device=bench.device)
    mask = DocumentMask(Documents(tuple(lengths), bounds), None, lambda *_: torch.ones(()))
    generator = torch.Generator().manual_seed(0)
    inputs = [
        torch.randn(ROWS, heads, tokens, width, generator=generator).to(bench.device, torch.bfloat16)
        for heads in (HEADS, KEY_HEADS, KEY_HEADS)
    ]
    dense = mask_documents(lengths, tokens).to(bench.device)
    if form == "varlen" and not takes_varlen(inputs[0], inputs[2], 0.0):
        raise RowSkipped("torch has no varlen_attn with the arguments of 2.13 for this device")
    forms: dict[str, Attend] = {
        "varlen": lambda q, k, v: attend_at_once(q, k, v, mask, 0.0, None),
        "loop": lambda q, k, v: attend_in_turn(q, k, v, mask, 0.0, None),
        "mask": lambda q, k, v: attend_densely(q, k, v, dense),
    }
    expected = run_once(forms["mask"], [x.float() for x in inputs])
    apart = compare(run_once(forms[form], inputs), expected)
    if apart > ALLOWED:
        raise RowFailed(f"differs from float32 by {apart:.2g} of the largest number, which is more than {ALLOWED}")
    seconds = []
    for _ in range(REPEATS):
        synchronize(bench.device)
        began = time.perf_counter()
        run_once(forms[form], inputs)
        synchronize(bench.device)
        seconds.append(time.perf_counter() - began)
    return {"documents": len(lengths), "ms": 1000 * statistics.median(seconds), "difference": apart}


def divide_rows(tokens: int) -> list[int]:
    """Returns the lengths of the documents of all rows: a half, a quarter and so on of a row, the last one twice."""
    one = [tokens // 2, tokens // 4, tokens // 8, tokens // 8]
    return one * ROWS


def mask_documents(lengths: list[int], tokens: int) -> Tensor:
    """Returns [B, 1, T, T]: whether a token sees another, which is before it in the same document."""
    document_BT = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)).view(ROWS, tokens)
    same = document_BT[:, :, None] == document_BT[:, None, :]
    return (same & torch.ones(tokens, tokens, dtype=torch.bool).tril())[:, None]


def attend_densely(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Returns sdpa's attention [B, T, H, D] with a mask of all tokens by all tokens."""
    key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], dim=1) for x in (key, value))
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2)


def run_once(attend: Attend, inputs: list[Tensor]) -> list[Tensor]:
    """Returns the result and the gradients of the inputs, for the same gradient of the result in every form."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    out = attend(*leaves)
    out.backward(torch.linspace(-1, 1, out.shape[1], device=out.device, dtype=out.dtype)[None, :, None, None]
        .expand_as(out))
    found: list[Any] = [out.detach(), *(x.grad for x in leaves)]
    return found


def compare(found: list[Tensor], expected: list[Tensor]) -> float:
    """Returns the largest difference, as a share of the largest number of its tensor."""
    return max(
        float((a.float() - b.float()).abs().max() / b.float().abs().max()) for a, b in zip(found, expected, strict=True)
    )
