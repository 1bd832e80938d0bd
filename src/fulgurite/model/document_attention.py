"""Attention inside the documents of packed rows, in place of a mask of all tokens by all tokens.

A model whose implementation of attention is `NAME` computes as with sdpa, except inside `know_rows(documents)`: its
masks are then the documents themselves, and each attends to itself alone. On a GPU that is one call of torch's
`varlen_attn` for all documents, elsewhere a loop of `scaled_dot_product_attention`. The documents travel in the place
of the mask, because every architecture hands its mask to its layers, and a layer keeps it for the backward pass.

Shapes: B rows of T tokens, H heads of width D, N documents.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface

from fulgurite.data.documents import Documents
from fulgurite.model.transformers_internals import replace_packing_search

NAME = "documents"
"""The implementation of attention under which transformers calls this module."""
SDPA, SDPA_MASK = AttentionInterface()["sdpa"], AttentionMaskInterface()["sdpa"]
"""transformers' own functions, for all that is not documents of packed rows."""
CHANGING = ("softcap", "position_bias", "s_aux")
"""Arguments of transformers' attention that change the scores or their sum, which neither form here can express."""
WIDEST, MULTIPLE, OLDEST = 256, 8, (8, 0)
"""What torch's flash attention takes: the widest head, the number that divides its width, the oldest GPU."""


@dataclass(slots=True)
class Rows:
    """What is known of the rows of a forward pass. `documents` is None if each row is one document."""

    documents: Documents | None
    masks: list[DocumentMask] = field(default_factory=list)
    """Those that the pass was given, one for each kind of layer."""


class DocumentMask:
    """Stands in for the mask of a kind of layer: the documents, and how many tokens back each token sees."""

    __slots__ = ("_bands", "documents", "reads", "rule", "window")

    def __init__(self, documents: Documents, window: int | None, rule: Callable[..., Tensor]) -> None:
        self.documents, self.window, self.rule = documents, window, rule
        self.reads = 0
        """How often a layer used it."""
        self._bands: dict[int, Tensor] = {}

    def get_band(self, length: int, device: torch.device) -> Tensor | None:
        """Returns the mask of a document that is longer than the window; None if causal attention is all there is."""
        if self.window is None or length <= self.window:
            return None
        if length not in self._bands:
            # Token i attends to j if i - window < j <= i: the diagonal, and window - 1 diagonals below it.
            every = torch.ones(length, length, dtype=torch.bool, device=device)
            self._bands[length] = every.tril().triu(1 - self.window)
        return self._bands[length]

    def is_band(self) -> bool:
        """Returns whether transformers' rule for this mask is causal attention in the window, and nothing more.

        It is computed at the edges of the window: blocks of that length, for example, differ there.
        """
        window = self.window or 1
        edges = sorted({0, 1, 2, *(n * window + step for n in (1, 2, 3) for step in (-1, 0, 1))})
        at = torch.tensor(edges, device=self.documents.bounds.device)
        # transformers calls a rule with the indices of batch, head, query and key, which broadcast to [1, 1, Q, K].
        zero = torch.zeros(1, 1, 1, 1, dtype=torch.int64, device=at.device)
        query, key = at[None, None, :, None], at[None, None, None, :]
        expected = key <= query if self.window is None else (key <= query) & (key > query - window)
        try:
            found = self.rule(zero, zero, query, key).expand(expected.shape)
        except (IndexError, RuntimeError, TypeError, ValueError):  # a rule about this micro-batch's tokens
            return False
        return torch.equal(found, expected)


_ROWS: ContextVar[Rows | None] = ContextVar("rows", default=None)


@contextlib.contextmanager
def know_rows(documents: Documents | None) -> Iterator[Rows]:
    """Within, the rows that a model reads consist of `documents`; None: each row is one.

    transformers then does not search the positions for packed rows, for which it would wait for the device.
    """
    rows = Rows(documents)
    token = _ROWS.set(rows)
    try:
        yield rows
    finally:
        _ROWS.reset(token)


def is_by_documents(model: Any) -> bool:
    """Returns whether the model's attention is the one of this module."""
    return getattr(model.config.get_text_config(), "_attn_implementation", None) == NAME


def make_mask(**given: Any) -> Tensor | DocumentMask | None:
    """Returns the documents in the place of a mask if they are known, else sdpa's mask. Called by transformers."""
    rows = _ROWS.get()
    if rows is None or rows.documents is None:
        found: Tensor | None = SDPA_MASK(**given)
        return found
    # A key/value cache or padding would mean other tokens: better an error than attention across documents.
    whole = given["batch_size"] * given["q_length"] == rows.documents.total
    if not whole or given["kv_length"] != given["q_length"] or given.get("attention_mask") is not None:
        raise ValueError("the mask is of other tokens than those of the documents")
    rows.masks.append(DocumentMask(rows.documents, given.get("local_size"), given["mask_function"]))
    return rows.masks[-1]


def attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, dropout: float = 0.0,
    scaling: float | None = None, **given: Any,
) -> tuple[Tensor, None]:
    """Returns the attention [B, T, H, D] of a layer: by documents if they are its mask, else sdpa's. Called by
    transformers."""
    if isinstance(attention_mask, DocumentMask):
        return attend_inside(query, key, value, attention_mask, dropout, scaling, given), None
    found: tuple[Tensor, None] = SDPA(
        module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **given
    )
    return found


@torch.compiler.disable  # type: ignore[untyped-decorator]
def attend_inside(
    query: Tensor, key: Tensor, value: Tensor, mask: DocumentMask, dropout: float, scaling: float | None,
    given: dict[str, Any],
) -> Tensor:
    """Returns the attention of each document to itself, [B, T, H, D].

    Not compiled: a graph would hold for one layout of documents alone.
    """
    unknown = [name for name in CHANGING if given.get(name) is not None]
    if unknown or given.get("is_causal") is False:
        raise ValueError(f"attention by documents does not know {', '.join(unknown) or 'is_causal=False'}")
    rows, _, tokens, _ = query.shape
    if rows * tokens != mask.documents.total or key.shape[2] != tokens or value.shape[2] != tokens:
        raise ValueError("attention is over other tokens than those of the documents")
    mask.reads += 1
    # Cast before the choice below: takes_varlen needs the dtype in which attention is computed.
    kind = query.device.type
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    whole = attend_at_once if takes_varlen(query, value, dropout) else attend_in_turn
    return whole(query, key, value, mask, dropout, scaling)


def attend_in_turn(
    query: Tensor, key: Tensor, value: Tensor, mask: DocumentMask, dropout: float, scaling: float | None
) -> Tensor:
    """Computes one document after another, with torch's scaled_dot_product_attention."""
    lengths, groups = list(mask.documents.lengths), query.shape[1] // key.shape[1]
    found = []
    # Split once: a slice for each document would fill a gradient of all tokens for each of them.
    for q, k, v in zip(*(_join_rows(x).split_with_sizes(lengths, dim=2) for x in (query, key, value)), strict=True):
        band = mask.get_band(q.shape[2], q.device)
        if band is not None and groups > 1:  # grouped heads with a mask would take torch's slow form
            k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        out = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=band, dropout_p=dropout, is_causal=band is None, scale=scaling,
            enable_gqa=groups > 1 and band is None,
        )
        found.append(out.transpose(1, 2))
    return torch.cat(found, dim=1).view(query.shape[0], query.shape[2], query.shape[1], value.shape[3])


def attend_at_once(
    query: Tensor, key: Tensor, value: Tensor, mask: DocumentMask, dropout: float, scaling: float | None
) -> Tensor:
    """Computes all documents in one call of torch's varlen_attn, which takes [tokens, heads, width] and no dropout."""
    documents, width = mask.documents, value.shape[3]
    scale = query.shape[3] ** -0.5 if scaling is None else scaling
    # Zeros at the end of a head add nothing to a score; the scale above is that of the width before padding.
    padded = -(-max(query.shape[3], width) // MULTIPLE) * MULTIPLE
    q, k, v = (
        functional.pad(_join_rows(x)[0].transpose(0, 1), (0, padded - x.shape[3])) for x in (query, key, value)
    )
    varlen = load_varlen()
    assert varlen is not None
    assert not dropout
    # The window is (tokens back, tokens ahead) without the token itself; -1 has no limit.
    out: Tensor = varlen(
        q, k, v, documents.bounds, documents.bounds, documents.longest, documents.longest, scale=scale,
        window_size=(-1 if mask.window is None else mask.window - 1, 0), enable_gqa=query.shape[1] != key.shape[1],
    )
    return out[..., :width].reshape(query.shape[0], query.shape[2], query.shape[1], width)


def takes_varlen(query: Tensor, value: Tensor, dropout: float) -> bool:
    """Returns whether torch's varlen_attn can compute this: in 16 bits, without dropout, on a GPU that has it."""
    if query.device.type != "cuda" or dropout or query.dtype not in (torch.bfloat16, torch.float16):
        return False
    capable = torch.cuda.get_device_capability(query.device) >= OLDEST
    return capable and max(query.shape[3], value.shape[3]) <= WIDEST and load_varlen() is not None


@cache
def load_varlen() -> Callable[..., Any] | None:
    """Returns torch's varlen_attn; None if this torch has none with the arguments of torch 2.13."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    known = inspect.signature(varlen_attn).parameters
    return varlen_attn if {"scale", "window_size", "enable_gqa"} <= known.keys() else None


def _join_rows(x_BHTD: Tensor) -> Tensor:
    """Returns the rows one after another, [1, H, B·T, D]; without a copy in the layout that transformers makes."""
    _, heads, _, width = x_BHTD.shape
    return x_BHTD.transpose(1, 2).reshape(1, -1, heads, width).transpose(1, 2)


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, make_mask)
replace_packing_search(lambda: _ROWS.get() is not None)
