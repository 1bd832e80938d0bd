"""Next-token losses as pure functions of hidden states, without ever holding all logits.

Shapes: N label positions, V vocabulary, D width, B batch, T tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

IGNORE = -100
"""The target of a position that is not learned."""
SLICE = 8192
"""Rows of the head whose low-precision gradient exists at one time."""


def nll(
    hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, *, bias_V: Tensor | None = None, chunk: int = 512, dft: bool = False
) -> Tensor:
    """The summed negative log-likelihood, in nats, of `targets_N` under logits hidden · weightᵀ + bias; a float32 scalar.

    Logits exist for `chunk` positions at a time, and the gradients are made in the same pass, so that the memory is
    chunk × V whatever N is. The value is that of `cross_entropy(..., reduction="sum")` on whole logits. With `dft` each
    token's term is weighted by its probability, through which no gradient flows (Wu et al., https://arxiv.org/abs/2508.05629).
    """
    # torch 2.13 has F.linear_cross_entropy: whole logits by default, and 4 to 9 times slower when chunked on a CPU;
    # liger-kernel and cut-cross-entropy need triton. All three were measured before this was written.
    if hidden_ND.shape[0] == 0:
        return hidden_ND.sum().float() * 0.0
    total: Tensor = _ChunkedNLL.apply(  # type: ignore[no-untyped-call]
        hidden_ND, weight_VD, bias_V, targets_N, chunk, _compute_dtype(hidden_ND), dft,
    )
    return total


def nll_of_logits(logits_NV: Tensor, targets_N: Tensor, *, dft: bool = False) -> Tensor:
    """The same sum from logits that a model made itself; for heads that are more than one matrix product."""
    losses_N = functional.cross_entropy(logits_NV.float(), targets_N, reduction="none")
    return (losses_N * (-losses_N).exp().detach()).sum() if dft else losses_N.sum()


def mean_nll_by_row(logits_NV: Tensor, targets_N: Tensor, rows_N: Tensor, rows: int, *, dft: bool = False) -> Tensor:
    """The mean over each row's own targets, float32 [rows]; label position n belongs to row `rows_N[n]`, and a row without has 0.

    No row's value hangs on another's, as the share of a mean over all tokens would: what differential privacy asks.
    """
    losses_N = functional.cross_entropy(logits_NV.float(), targets_N, reduction="none")
    if dft:
        losses_N = losses_N * (-losses_N).exp().detach()
    sums = losses_N.new_zeros(rows).index_add(0, rows_N, losses_N)
    counts = torch.bincount(rows_N, minlength=rows).clamp(min=1)
    return sums / counts


def _compute_dtype(tensor: Tensor) -> torch.dtype:
    kind = tensor.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else tensor.dtype


class _ChunkedNLL(torch.autograd.Function):
    """Forward makes the loss and both gradients chunk by chunk; backward only scales them, and can be called once."""

    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, targets_N: Tensor, chunk: int,
        dtype: torch.dtype, dft: bool,
    ) -> Tensor:
        with torch.autocast(hidden_ND.device.type, enabled=False):
            wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
            hidden, weight = hidden_ND.to(dtype), weight_VD.to(dtype)
            bias = None if bias_V is None else bias_V.float()
            n, v = hidden.shape[0], weight.shape[0]
            rows = min(chunk, n)
            # One set of buffers for all chunks: fresh pages cost more on a CPU than the arithmetic on them.
            low = torch.empty(rows, v, dtype=dtype, device=hidden.device)
            full = low if dtype == torch.float32 else torch.empty(rows, v, dtype=torch.float32, device=hidden.device)
            grad_hidden = torch.empty_like(hidden) if wants_hidden else None
            grad_weight = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device) if wants_weight else None
            grad_bias = torch.zeros(v, dtype=torch.float32, device=hidden.device) if wants_bias else None
            total = torch.zeros((), dtype=torch.float32, device=hidden.device)
            for start in range(0, n, rows):
                h, target = hidden[start : start + rows], targets_N[start : start + rows]
                m = h.shape[0]
                logits, scores = low[:m], full[:m]
                torch.mm(h, weight.t(), out=logits)
                if scores is not logits:
                    scores.copy_(logits)
                if bias is not None:
                    scores.add_(bias)
                picked = scores.gather(1, target[:, None])
                norm = scores.logsumexp(1, keepdim=True)
                losses = norm - picked
                share = (-losses).exp() if dft else None  # the token's probability
                total += losses.sum() if share is None else (losses * share).sum()
                if not (wants_hidden or wants_weight or wants_bias):
                    continue
                scores.sub_(norm).exp_()  # now the probabilities, then the gradient of the logits
                scores.scatter_add_(1, target[:, None], torch.full_like(picked, -1.0))
                if share is not None:
                    scores.mul_(share)
                if grad_bias is not None:
                    grad_bias += scores.sum(0)
                if logits is not scores:
                    logits.copy_(scores)
                if grad_hidden is not None:
                    torch.mm(logits, weight, out=grad_hidden[start : start + m])
                if grad_weight is not None:
                    if dtype == torch.float32:
                        grad_weight.addmm_(logits.t(), h)
                    else:
                        for part in range(0, v, SLICE):  # in slices, or the product stands whole beside the sum
                            grad_weight[part : part + SLICE] += logits[:, part : part + SLICE].t() @ h
        ctx.made = (grad_hidden, grad_weight, grad_bias)
        ctx.dtypes = hidden_ND.dtype, weight_VD.dtype, None if bias_V is None else bias_V.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.made is None:
            raise RuntimeError("the gradients of this loss were given away already: it can be gone back through once")
        (scale,), made, ctx.made = grads, ctx.made, None
        # Scaled where they lie: a copy of the head's gradient would stand at the moment when memory is at its peak.
        scaled = [None if g is None else g.mul_(scale.to(g.dtype)).to(kind) for g, kind in zip(made, ctx.dtypes, strict=True)]
        return (*scaled, None, None, None, None)
