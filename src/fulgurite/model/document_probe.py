"""Measures whether a model can attend by documents, and switches it if it computes the same as with its mask."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fulgurite.data.documents import find_documents
from fulgurite.errors import is_shortage
from fulgurite.model.classifier import HEAD
from fulgurite.model.document_attention import NAME, Rows, know_rows
from fulgurite.model.probe import NEAR, NEAR_ROUNDED, is_rounded, list_ordinary_tokens, probe_context
from fulgurite.model.quiet import silence
from fulgurite.model.unwrap import unwrap_model

BEFORE = "sdpa"
"""The implementation that computes the same with a mask; a model with another one keeps it."""
LENGTHS = ((5, 1, 6), (8, 4))
"""Tokens of the documents in the two rows of the measurement."""


def use_documents(model: Any) -> bool:
    """Switches a model with sdpa to attention by documents, and returns True; returns False, and leaves the model as it
    is, if that would not compute the same as its mask.

    Compared are the states at the last token of each document and their gradients at all tokens: at every other token
    the gradient comes through attention alone, however small the weights are.
    """
    whole = unwrap_model(model)
    if whole.config.get_text_config()._attn_implementation != BEFORE:
        return False
    try:
        with probe_context(whole):
            expected = _run(whole)
            _switch(whole, NAME)
            if _is_same(whole, expected):
                return True
    except (ArithmeticError, AssertionError, AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError,
            ValueError) as error:  # code of a foreign model that looks into its mask
        if is_shortage(error):
            raise
    _switch(whole, BEFORE)
    return False


def _switch(whole: Any, name: str) -> None:
    with silence():
        whole.set_attn_implementation(name)


def _is_same(whole: Any, expected: tuple[Tensor, Tensor]) -> bool:
    documents = find_documents(_positions()).to(next(whole.parameters()).device)
    with know_rows(documents) as rows:
        found = _run(whole)
    if not _is_used(rows):
        return False
    near = NEAR_ROUNDED if is_rounded(whole) else NEAR
    # Each token by its own size: the gradient of a distant one may be far smaller than that of the last.
    return all(
        bool(((one - two).abs().amax(-1) <= near * two.abs().amax(-1)).all())
        for one, two in zip(found, expected, strict=True)
    )


def _is_used(rows: Rows) -> bool:
    """Returns whether layers read the documents, and each of their masks is a causal window."""
    read = [mask for mask in rows.masks if mask.reads]
    return bool(read) and all(mask.is_band() for mask in read)


def _positions() -> Tensor:
    return torch.stack([torch.cat([torch.arange(length) for length in row]) for row in LENGTHS])


def _run(whole: Any) -> tuple[Tensor, Tensor]:
    """Returns the last states or logits at the end of each document, and their gradient at the embeddings [B, T, D]."""
    device = next(whole.parameters()).device
    positions_BT = _positions()
    ids_BT = torch.tensor(list_ordinary_tokens(whole, positions_BT.numel())).view_as(positions_BT).to(device)
    ends = torch.tensor(LENGTHS[0] + LENGTHS[1]).cumsum(0) - 1
    seen: list[Tensor] = []

    def hold(module: nn.Module, args: Any, out: Any) -> Any:
        if seen or not isinstance(out, Tensor) or out.shape[:2] != ids_BT.shape:
            return out
        seen.append(out.detach().requires_grad_())
        return seen[0].clone()  # some models write into it

    listening = whole.get_input_embeddings().register_forward_hook(hold)
    try:
        with torch.enable_grad():
            # A reward model's own forward has one number for a row: its backbone has states for all tokens.
            asked = getattr(whole, whole.base_model_prefix) if hasattr(whole, HEAD) else whole
            out = asked(input_ids=ids_BT, position_ids=positions_BT.to(device), use_cache=False)
            states = out.logits if "logits" in out else out.last_hidden_state
            ends_ND = states.flatten(0, 1)[ends.to(device)].float()
            weights_D = torch.linspace(-1.0, 1.0, ends_ND.shape[-1], device=device).cos()
            (gradient_BTD,) = torch.autograd.grad((ends_ND * weights_D).sum(), seen[0])
    finally:
        listening.remove()
    return ends_ND.detach(), gradient_BTD.float().detach()
