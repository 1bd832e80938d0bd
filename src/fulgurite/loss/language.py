"""Next-token losses as pure functions of hidden states. The logits are computed in chunks, so that they never exist
all at once.

Shapes: N label positions, V vocabulary, D width, B batch, T tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

IGNORE = -100
"""The target of a position that has no loss."""
SLICE = 8192
"""Rows of the output layer whose low-precision gradient exists at one time."""


def nll(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    targets_N: Tensor,
    *,
    bias_V: Tensor | None = None,
    chunk: int = 512,
    dft: bool = False,
) -> Tensor:
    """Returns the summed negative log-likelihood of `targets_N` in nats, a float32 scalar, for the logits
    hidden · weightᵀ + bias.

    Logits exist for `chunk` positions at a time, and the same pass computes the gradients, so that the memory is
    chunk × V for any N. The value equals `cross_entropy(..., reduction="sum")` on whole logits. If `dft` is true, the
    term of each token is multiplied by its probability, taken as a constant (Wu et al.,
    https://arxiv.org/abs/2508.05629).
    """
    # Alternatives that were measured: torch 2.13's F.linear_cross_entropy makes whole logits by default and is 4 to 9
    # times slower on a CPU if chunked; liger-kernel and cut-cross-entropy need triton.
    if hidden_ND.shape[0] == 0:
        # A zero that still depends on the hidden states, so that backward() works on a process without labels.
        return hidden_ND.sum().float() * 0.0
    total: Tensor = _ChunkedNLL.apply(  # type: ignore[no-untyped-call]
        hidden_ND, weight_VD, bias_V, targets_N, chunk, _compute_dtype(hidden_ND), dft,
    )
    return total


def nll_of_logits(logits_NV: Tensor, targets_N: Tensor, *, dft: bool = False) -> Tensor:
    """Returns the same sum from the logits of a model whose output layer is more than one matrix product."""
    losses_N = functional.cross_entropy(logits_NV.float(), targets_N, reduction="none")
    # exp(-loss) is the token's probability; detached, because DFT's weight has no gradient of its own.
    return (losses_N * (-losses_N).exp().detach()).sum() if dft else losses_N.sum()


def mean_nll_by_row(logits_NV: Tensor, targets_N: Tensor, rows_N: Tensor, rows: int, *, dft: bool = False) -> Tensor:
    """Returns the mean over the targets of each row, float32 [rows]. Label position n belongs to row `rows_N[n]`; a
    row without targets has 0.

    The value of a row does not depend on other rows, as differential privacy requires; its share of a mean over all
    tokens would.
    """
    losses_N = functional.cross_entropy(logits_NV.float(), targets_N, reduction="none")
    if dft:
        losses_N = losses_N * (-losses_N).exp().detach()
    return mean_by_row(losses_N, rows_N, rows)


def mean_by_row(losses_N: Tensor, rows_N: Tensor, rows: int) -> Tensor:
    """Returns the mean over the positions of each row, [rows]. Position n belongs to row `rows_N[n]`; a row without
    positions has 0."""
    # index_add adds each position to the sum of its row, without a loop over rows.
    sums = losses_N.new_zeros(rows).index_add(0, rows_N, losses_N)
    # Clamped, so that a row without positions is 0 / 1 and not 0 / 0.
    counts = torch.bincount(rows_N, minlength=rows).clamp(min=1)
    return sums / counts


def log_probs(
    hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, *, bias_V: Tensor | None = None, chunk: int = 512
) -> Tensor:
    """Returns the log-probability of each target, logp_N in float32; logits exist for `chunk` positions at a time.

    `nll` computes gradients in the forward pass. Here the caller may weight each position later, so the backward pass
    computes the logits of each chunk again.
    """
    if hidden_ND.shape[0] == 0:
        # Shape [0], with a graph.
        return hidden_ND.sum(-1).float()
    found: Tensor = _ChunkedLogProbs.apply(  # type: ignore[no-untyped-call]
        hidden_ND, weight_VD, bias_V, targets_N, chunk, _compute_dtype(hidden_ND),
    )
    return found


def log_probs_of_logits(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """Returns the same from whole logits."""
    return -functional.cross_entropy(logits_NV.float(), targets_N, reduction="none")


def sum_by_row(logp_N: Tensor, rows_N: Tensor, rows: int) -> Tensor:
    """Returns the sum of the log-probabilities of each of `rows` rows, logp_B; `rows_N` has the row of each."""
    return torch.zeros(rows, dtype=logp_N.dtype, device=logp_N.device).index_add(0, rows_N, logp_N)


def _compute_dtype(tensor: Tensor) -> torch.dtype:
    # A custom Function is outside of autocast's table: it has to ask for the type in which a matrix product would
    # run.
    kind = tensor.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else tensor.dtype


class _ChunkedNLL(torch.autograd.Function):
    """Computes the loss and both gradients in forward, chunk by chunk. Backward only scales the gradients; it can be
    called once."""

    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, targets_N: Tensor, chunk: int,
        dtype: torch.dtype, dft: bool,
    ) -> Tensor:
        # All casts are written out below: autocast would cast the head once more, and the sums to the low type.
        with torch.autocast(hidden_ND.device.type, enabled=False):
            wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
            hidden, weight = hidden_ND.to(dtype), weight_VD.to(dtype)
            # The bias is added after the product, in float32.
            bias = None if bias_V is None else bias_V.float()
            n, v = hidden.shape[0], weight.shape[0]
            rows = min(chunk, n)
            # One set of buffers for all chunks: on a CPU new memory pages cost more than the arithmetic on them.
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
                # The product is made in the compute type; everything from the normaliser on is float32.
                torch.mm(h, weight.t(), out=logits)
                if scores is not logits:
                    scores.copy_(logits)
                if bias is not None:
                    scores.add_(bias)
                picked = scores.gather(1, target[:, None])
                # logsumexp subtracts the maximum itself, so large logits do not overflow.
                norm = scores.logsumexp(1, keepdim=True)
                losses = norm - picked
                # DFT: the weight of a token is its probability.
                share = (-losses).exp() if dft else None
                total += losses.sum() if share is None else (losses * share).sum()
                if not (wants_hidden or wants_weight or wants_bias):
                    # Evaluation: no gradient is wanted, and the products below are saved.
                    continue
                # `scores` becomes the probabilities, then, less 1 at the target, the gradient of the logits.
                scores.sub_(norm).exp_()
                scores.scatter_add_(1, target[:, None], torch.full_like(picked, -1.0))
                if share is not None:
                    scores.mul_(share)
                if grad_bias is not None:
                    grad_bias += scores.sum(0)
                if logits is not scores:
                    # From here on the buffer of the logits holds their gradient in the compute type, for the products
                    # below.
                    logits.copy_(scores)
                if grad_hidden is not None:
                    torch.mm(logits, weight, out=grad_hidden[start : start + m])
                if grad_weight is not None:
                    if dtype == torch.float32:
                        # In float32 the product is added in place, without a temporary of the size of the head.
                        grad_weight.addmm_(logits.t(), h)
                    else:
                        # In slices, so that the low-precision product never exists whole beside the sum.
                        for part in range(0, v, SLICE):
                            grad_weight[part : part + SLICE] += logits[:, part : part + SLICE].t() @ h
        # Not save_for_backward: these are results, and backward scales them in place.
        ctx.made = (grad_hidden, grad_weight, grad_bias)
        ctx.dtypes = hidden_ND.dtype, weight_VD.dtype, None if bias_V is None else bias_V.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.made is None:
            raise RuntimeError("backward was called twice on this loss; its gradients exist only once")
        # The reference is dropped first, so that a second call is refused and the memory is free afterwards.
        (scale,), made, ctx.made = grads, ctx.made, None
        # In place: memory is at its peak here, and a copy of the output layer's gradient would raise the peak.
        scaled = [
            None if g is None else g.mul_(scale.to(g.dtype)).to(kind) for g, kind in zip(made, ctx.dtypes, strict=True)
        ]
        return (*scaled, None, None, None, None)


class _ChunkedLogProbs(torch.autograd.Function):
    """Keeps the normalisers in forward; backward computes the probabilities from them. One chunk of logits exists at a
    time."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        targets_N: Tensor,
        chunk: int,
        dtype: torch.dtype,
    ) -> Tensor:
        with torch.autocast(hidden_ND.device.type, enabled=False):
            hidden, weight = hidden_ND.to(dtype), weight_VD.to(dtype)
            logp, norms = (
                hidden.new_empty(len(hidden), dtype=torch.float32),
                hidden.new_empty(len(hidden), dtype=torch.float32),
            )
            for start in range(0, len(hidden), chunk):
                piece = slice(start, start + chunk)
                scores = _scores(hidden[piece], weight, bias_V)
                # One float a position is kept; with it backward needs no second pass over the row to normalise.
                norms[piece] = scores.logsumexp(1)
                logp[piece] = scores.gather(1, targets_N[piece, None])[:, 0] - norms[piece]
        # The inputs as they came, not their casts: a low-precision copy of the head would live until the backward pass.
        ctx.save_for_backward(hidden_ND, weight_VD, bias_V, targets_N, norms)
        ctx.chunk, ctx.dtype = chunk, dtype
        return logp

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden_ND, weight_VD, bias_V, targets_N, norms_N = ctx.saved_tensors
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        hidden, weight = hidden_ND.to(ctx.dtype), weight_VD.to(ctx.dtype)
        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        grad_weight = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device) if wants_weight else None
        grad_bias = torch.zeros(weight.shape[0], dtype=torch.float32, device=weight.device) if wants_bias else None
        for start in range(0, len(hidden), ctx.chunk):
            piece = slice(start, start + ctx.chunk)
            # exp(score - norm) is the probability of each token; here it is negative.
            share = _scores(hidden[piece], weight, bias_V).sub_(norms_N[piece, None]).exp_().neg_()
            share.scatter_add_(1, targets_N[piece, None], torch.ones_like(share[:, :1]))
            # (1 at the target − probability) × incoming gradient: the gradient of the logits.
            share.mul_(grads[0][piece, None])
            if grad_bias is not None:
                grad_bias += share.sum(0)
            low = share.to(ctx.dtype)
            if grad_hidden is not None:
                torch.mm(low, weight, out=grad_hidden[piece])
            if grad_weight is not None:
                # In slices of the vocabulary, so that no low-precision product of the head's size exists beside the
                # sum.
                for part in range(0, low.shape[1], SLICE):
                    grad_weight[part : part + SLICE] += low[:, part : part + SLICE].t() @ hidden[piece]
        # autograd wants a gradient for each argument of forward, in its dtype; the last three arguments have none.
        made = zip((grad_hidden, grad_weight, grad_bias), (hidden_ND, weight_VD, bias_V), strict=True)
        return (*(None if g is None else g.to(of.dtype) for g, of in made), None, None, None)


def _scores(hidden: Tensor, weight: Tensor, bias_V: Tensor | None) -> Tensor:
    scores = (hidden @ weight.t()).float()
    return scores if bias_V is None else scores.add_(bias_V.float())
