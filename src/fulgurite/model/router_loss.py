"""The balance loss of a mixture of experts: transformers' `load_balancing_loss_func` of the architecture, times a
coefficient.

transformers adds it in the model's own forward, if that gets labels and `output_router_logits`. Training here computes
its loss from the states, so it requests the router's logits and calls the same function with them. Shapes: B rows, T
tokens, E experts, N = B·T.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fulgurite.errors import ConfigError, excerpt, is_shortage
from fulgurite.language.library_errors import quote_foreign
from fulgurite.model.probe import NEAR, NEAR_ROUNDED, is_rounded, list_ordinary_tokens, probe_context
from fulgurite.model.transformers_internals import balance_loss_function
from fulgurite.model.unwrap import unwrap_model

ASKED = {"output_router_logits": True}
"""The arguments with which a decoder of transformers returns its router's logits."""
COEFFICIENTS = ("router_aux_loss_coef", "aux_loss_coef")
"""Names of the coefficient in configs."""
TOKENS = 12


@dataclass(frozen=True, slots=True)
class Router:
    """Computes the balance loss of a model."""

    function: Callable[..., Tensor]
    chosen: int
    """Number of experts per token."""
    coefficient: float

    def loss(self, logits: tuple[Tensor, ...], real_BT: Tensor | None = None) -> Tensor:
        """Returns the balance loss, without the coefficient, of the router's logits [N, E], one tensor per layer.

        Tokens whose `real_BT` is False are left out, by transformers' function: an index would wait for the device.
        """
        return self.function(logits, logits[0].shape[-1], self.chosen, None if real_BT is None else real_BT.float())


def build_router(model: Any, asked: float | None) -> Router | None:
    """Builds the balance loss of a loaded model; None if it has none, or if its coefficient is 0.

    `asked` is `stage.router_aux_loss_coef`. If it is empty, the model's own coefficient is used if its config has
    output_router_logits=true. The function is compared with the model's own forward. Raises ConfigError if the balance
    loss cannot be computed.
    """
    whole = unwrap_model(model)
    coefficient = find_own_coefficient(whole) if asked is None else asked
    if coefficient == 0:
        return None
    refuse_without_router(whole, coefficient)
    text = whole.config.get_text_config()
    # Some architectures keep the number in the model, others in the config of its text part.
    chosen = next((int(n) for holder in (whole, text) if (n := getattr(holder, "num_experts_per_tok", None))), 0)
    found = Router(_function(whole), chosen, coefficient)  # type: ignore[arg-type]
    try:
        theirs, ours = _compared(whole, found)
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
        if is_shortage(error):
            raise
        raise ConfigError(
            "router_aux_loss_coef={coefficient:g}: the balance loss of {name} cannot be computed apart from its own "
            "forward ({reason}); set stage.router_aux_loss_coef=0.",
            coefficient=coefficient, name=type(whole).__name__, reason=quote_foreign(excerpt(error), 600),
        ) from error
    # `not <=`, so that nan is refused too.
    if not abs(theirs - ours) <= (NEAR_ROUNDED if is_rounded(whole) else NEAR) * max(abs(theirs), 1e-6):
        raise ConfigError(
            "router_aux_loss_coef={coefficient:g}: the balance loss of {name} is not the one that its own forward adds "
            "(its own is {theirs:.4g}, ours {ours:.4g}); set stage.router_aux_loss_coef=0.",
            coefficient=coefficient, name=type(whole).__name__, theirs=theirs, ours=ours,
        )
    return found


def refuse_without_router(model: Any, asked: float | None) -> None:
    """Raises ConfigError if a balance loss is requested and transformers has none for the architecture. Needs no
    weights."""
    whole = unwrap_model(model)
    if asked and _function(whole) is None:
        raise ConfigError(
            "stage.router_aux_loss_coef={asked:g} is for mixtures of experts, and transformers has no balance loss of "
            "a "
            "router for {name}; leave it out.",
            asked=asked, name=type(whole).__name__,
        )


def find_own_coefficient(whole: Any) -> float:
    """Returns the coefficient with which transformers would add the balance loss by itself; 0 if it would not."""
    text = whole.config.get_text_config()
    asks = any(getattr(config, "output_router_logits", False) for config in (whole.config, text))
    if not asks or _function(whole) is None:
        return 0.0
    held = (getattr(holder, name, None) for holder in (whole, text) for name in COEFFICIENTS)
    return float(next((value for value in held if value is not None), 0.0))


def _function(whole: Any) -> Callable[..., Tensor] | None:
    """Returns transformers' function for the architecture, if the model's own forward adds the balance loss."""
    if "output_router_logits" not in inspect.signature(type(whole).forward).parameters:
        return None
    return balance_loss_function(whole)


@torch.no_grad()
def _compared(whole: Any, router: Router) -> tuple[float, float]:
    """Returns the balance loss of a few tokens by the model's own forward, and from the logits of its decoder."""
    ids_BT = torch.tensor([list_ordinary_tokens(whole, TOKENS)], device=next(whole.parameters()).device)
    with probe_context(whole):
        theirs = whole(input_ids=ids_BT, use_cache=False, **ASKED).aux_loss
        logits = whole.get_decoder()(input_ids=ids_BT, use_cache=False, **ASKED).router_logits
        return float(theirs), float(router.loss(tuple(logits)))


