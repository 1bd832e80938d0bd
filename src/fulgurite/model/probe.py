"""Measures what a model does, on the model itself with a few tokens; the name of its class decides nothing.

- causality: whether a later token changes an earlier prediction;
- packing: whether the first of two documents in a row, whose positions start again, changes the predictions of the
second;
- the output layer: whether logits are its product with the last states, of whatever size, or capped, scaled or bent;
- learned positions: how many there are.

A dependence is measured by its gradient, which is zero for what attention masks, however small the weights are. All
of it runs in evaluation mode; modes, gradients and random state come back as they were. Shapes: T tokens, D width, V
vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from fulgurite.errors import ModelError, excerpt, is_shortage
from fulgurite.language.library_errors import quote_foreign
from fulgurite.model.generate import keep_state
from fulgurite.model.quiet import silence
from fulgurite.model.unwrap import unwrap_model

DOCUMENT = 6
"""Tokens of each of the two documents."""
NOTHING = 3e-6
"""A gradient below this share of a token's own is none. What attention masks has one of exactly 0; ProphetNet's sums
round (2e-7)."""
NEAR, NEAR_ROUNDED = 1e-3, 0.1
"""How far, relative to the largest, numbers of two passes may differ by rounding, in float32 and in 16 bits."""
STRAIGHT, STRAIGHT_ROUNDED = 1e-4, 3e-2
"""The same for one product with the output layer."""
SIZES = (0.3, 10.0, 100.0, 3000.0)
"""Sizes of logits at which the output layer is compared: caps of 15, 30 and 50 are in use, and show beyond."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """The measured behaviour of a model."""

    causal: bool
    """No later token changes an earlier prediction."""
    packs: bool
    """Documents of one row do not change one another, if each has positions of its own."""
    positions: int | None
    """Number of learned positions; None if no table of positions is indexed."""


def measure(model: Any) -> Behaviour:
    """Measures a model, which may have an adapter or a reward head. Raises ModelError if it cannot compute a few
    tokens."""
    whole = unwrap_model(model)
    tokens = list_ordinary_tokens(whole, 4 * DOCUMENT)
    first, second, other = tokens[:DOCUMENT], tokens[DOCUMENT : 2 * DOCUMENT], tokens[2 * DOCUMENT : 3 * DOCUMENT]
    try:
        with probe_context(whole):
            return Behaviour(
                _causal(whole, first, second, other), _packs(whole, first, second, other), find_learned_positions(whole)
            )
    except (
        RuntimeError,
        ValueError,
        TypeError,
        IndexError,
        KeyError,
        AttributeError,
        AssertionError,
        NotImplementedError,
    ) as error:
        if is_shortage(error):
            raise
        raise ModelError(
            "{name} cannot compute the logits of {tokens} tokens: {excerpt}",
            name=type(whole).__name__, tokens=2 * DOCUMENT, excerpt=quote_foreign(excerpt(error), 600),
        ) from error


def list_ordinary_tokens(model: Any, count: int) -> list[int]:
    """Returns ids of ordinary tokens, spread over the vocabulary."""
    rows = int(model.get_input_embeddings().weight.shape[0])
    text = model.config.get_text_config()
    special = {
        value
        for c in (model.config, text)
        for name, value in c.to_dict().items()
        if name.endswith(("token_id", "token_index")) and isinstance(value, int)
    }
    free = [token for token in range(min(rows, 2048)) if token not in special] or [0]
    step = max(1, len(free) // (count + 1))
    return [free[(1 + n) * step % len(free)] for n in range(count)]


@contextmanager
def probe_context(model: Any) -> Iterator[None]:
    """Sets evaluation mode without gradients, and autocast if the model has layers in 16 bits and in float32."""
    device = next(model.parameters()).device
    with keep_state(model, 0), silence(), torch.autocast(device.type, choose_dtype(model), enabled=is_rounded(model)):
        yield


def choose_dtype(model: Any) -> torch.dtype:
    """Returns the dtype of autocast: that in which four-bit layers compute, because autocast refuses a mix of fp16 and
    bf16."""
    found = (getattr(module, "compute_dtype", None) for module in model.modules())
    return torch.float16 if torch.float16 in found else torch.bfloat16


def is_rounded(model: Any) -> bool:
    """Returns whether a weight is stored in fewer bits than float32."""
    return any(p.dtype != torch.float32 for p in model.parameters())


def _outputs(model: Any, ids: list[int], **more: Any) -> Tensor:
    """Returns the logits [T, V] as training computes them; for a reward model its last states [T, D]. Float32."""
    whole = model
    if getattr(model.config, "num_labels", None) == 1 and hasattr(model, "score"):
        # The head of a reward model sees one state a row, in which no dependence between positions would show.
        whole = getattr(model, model.base_model_prefix)
    ids_BT = torch.tensor([ids], device=next(model.parameters()).device)
    out = whole(input_ids=ids_BT, use_cache=False, **more)
    found: Tensor = out.logits if whole is model else out.last_hidden_state
    return found[0].float()


def _causal(model: Any, first: list[int], second: list[int], other: list[int]) -> bool:
    """Returns whether the predictions of the first half do not depend on the second half."""
    head = slice(0, len(first))
    if _depends(model, first + second, on=slice(len(first), None), of=head):
        return False
    return _alike(_outputs(model, first + second)[head], _outputs(model, first + other)[head], is_rounded(model))


def _packs(model: Any, first: list[int], second: list[int], other: list[int]) -> bool:
    """Returns whether a document after another one, with its own positions, is predicted as if it were alone."""
    device = next(model.parameters()).device
    alone = torch.arange(DOCUMENT, device=device)[None]
    # Positions that start again are how transformers recognises packed documents without a mask.
    both, tail = torch.cat([alone, alone], dim=1), slice(DOCUMENT, None)
    try:
        if _depends(model, first + second, on=slice(0, DOCUMENT), of=tail, position_ids=both):
            return False
        behind = _outputs(model, first + second, position_ids=both)[tail]
        lower = is_rounded(model)
        return _alike(behind, _outputs(model, other + second, position_ids=both)[tail], lower) and _alike(
            behind, _outputs(model, second, position_ids=alone), lower
        )
    except TypeError:  # its forward takes no positions
        return False


def _alike(one: Tensor, two: Tensor, rounded: bool) -> bool:
    most = (NEAR_ROUNDED if rounded else NEAR) * max(float(two.abs().max()), 1e-30)
    return bool((one - two).abs().max() <= most)


def _depends(model: Any, ids: list[int], *, on: slice, of: slice, **more: Any) -> bool:
    """Returns whether outputs `of` some positions have a gradient at the embeddings `on` others; False if none can be
    computed."""
    seen: list[Tensor] = []

    def hold(module: nn.Module, args: Any, out: Any) -> Any:
        if not isinstance(out, Tensor) or out.shape[-2:-1] != (len(ids),) or seen:
            return out
        # The embeddings become a leaf, so that the gradient is taken there also if all weights are frozen.
        seen.append(out.detach().requires_grad_())
        return seen[0].clone()  # some models write into it

    listening = model.get_input_embeddings().register_forward_hook(hold)
    try:
        with torch.enable_grad():
            out_TV = _outputs(model, ids, **more)[of]
            if not seen or not out_TV.requires_grad:
                return False
            # a weighted sum: a plain one may be constant, as that of a normalised vector is
            weights_V = torch.linspace(-1.0, 1.0, out_TV.shape[-1], device=out_TV.device).cos()
            gradient: Tensor | None = torch.autograd.grad((out_TV * weights_V).sum(), seen[0], allow_unused=True)[0]
    finally:
        listening.remove()
    if gradient is None:
        return False
    # The largest entry at each position, [T]; divided by that of the outputs' own positions, it has no scale.
    size_T = gradient.float().abs().reshape(-1, gradient.shape[-2], gradient.shape[-1]).amax((0, 2))
    return bool(size_T[on].max() > NOTHING * size_T[of].max())


# -- the output layer ---------------------------------------------------------------------------------------------


@torch.no_grad()
def find_plain_head(causal: PreTrainedModel) -> nn.Linear | None:
    """Returns the output layer if logits are exactly its product with the decoder's last states, else None.

    It is compared twice: on the model's own states of four tokens, and on replaced states whose logits are small,
    large and very large, because a cap changes nothing near zero.
    """
    head = causal.get_output_embeddings()
    if type(head) is not nn.Linear:
        return None
    decoder = causal.get_decoder()
    if decoder is None or decoder is causal:
        return None
    try:
        return head if _straight(causal, decoder, head) else None
    except (
        RuntimeError,
        ValueError,
        TypeError,
        AttributeError,
        IndexError,
    ) as error:  # no states, or of another width than the head's
        if is_shortage(error):
            raise
        return None


def _straight(causal: Any, decoder: Any, head: nn.Linear) -> bool:
    ids_BT = torch.tensor([list_ordinary_tokens(causal, len(SIZES))], device=next(causal.parameters()).device)
    most = STRAIGHT_ROUNDED if is_rounded(causal) else STRAIGHT
    put: list[Tensor] = []

    def put_in(module: nn.Module, args: Any, out: Any) -> Any:
        put.append(_sized(head, out.last_hidden_state))
        out.last_hidden_state = put[-1]
        return out

    with probe_context(causal):
        whole_BTV = causal(input_ids=ids_BT, use_cache=False).logits.float()
        ours_BTV = head(decoder(input_ids=ids_BT, use_cache=False).last_hidden_state).float()
        if not _alike(whole_BTV, ours_BTV, is_rounded(causal)):
            return False
        listening = decoder.register_forward_hook(put_in)
        try:
            bent_BTV = causal(input_ids=ids_BT, use_cache=False).logits.float()
        finally:
            listening.remove()
        if len(put) != 1:
            return False
        straight_BTV = head(put[0]).float()
    # Relative to each token's own largest logit: the four tokens differ in size by a factor of 10,000.
    off_BT = (bent_BTV - straight_BTV).abs().amax(-1) / straight_BTV.abs().amax(-1)
    return bool((off_BT <= most).all())  # a number that is not finite is not straight


def _sized(head: nn.Linear, like_BTD: Tensor) -> Tensor:
    """Returns states, one per token, whose largest logits have the sizes of `SIZES`."""
    random = torch.Generator().manual_seed(0)
    states_BTD = torch.randn(like_BTD.shape, generator=random).to(like_BTD.device)
    with torch.autocast(like_BTD.device.type, enabled=False):
        largest_BT = nn.functional.linear(states_BTD, head.weight.float()).abs().amax(-1, keepdim=True)
    sizes_BT = torch.tensor(SIZES, device=like_BTD.device)[None, :, None]
    return (states_BTD * sizes_BT / largest_BT.clamp(min=1e-12)).to(like_BTD.dtype)


# -- learned positions --------------------------------------------------------------------------------------------


class _Lookups(TorchFunctionMode):
    """Records for each table of embeddings the largest index that was looked up in it."""

    def __init__(self) -> None:
        super().__init__()
        self.largest: dict[int, tuple[int, int]] = {}
        """By the table's address: its rows and the largest index."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is nn.functional.embedding:
            ids, table = args[0], args[1] if len(args) > 1 else (kwargs or {})["weight"]
            if ids.numel():
                self.largest[table.data_ptr()] = int(table.shape[0]), int(ids.max())
        return function(*args, **(kwargs or {}))


def find_learned_positions(model: Any) -> int | None:
    """Returns the number of positions of the smallest table that is indexed by a token's position; None if there is
    none.

    Such a table is found by its indices: they grow by as much as the sequence does. Some skip a few rows at the start.
    """
    found: list[_Lookups] = []
    token = list_ordinary_tokens(model, 1)[0]
    # Two lengths: a table of positions is the one whose largest index grows by the difference of three.
    for length in (4, 7):
        with _Lookups() as lookups:
            _outputs(model, [token] * length)
        found.append(lookups)
    rooms = [
        # With 7 tokens the last position is 6: what its index is beyond that are the rows skipped at the start.
        rows - (largest - 6) for place, (rows, largest) in found[1].largest.items()
        if place in found[0].largest and largest - found[0].largest[place][1] == 3
    ]
    return min(rooms, default=None)
