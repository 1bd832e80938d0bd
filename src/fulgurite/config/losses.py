"""The losses that a stage may choose by `stage.loss`: what each declares, and the registry that packages add to.

A family of losses belongs to a stage and to its subclasses (`Stage.list_losses`); stage/losses.py has the
families. Standard library only.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fulgurite.errors import ConfigError
from fulgurite.language.library_errors import translate_error
from fulgurite.language.message import UserMessage


@dataclass(frozen=True, slots=True)
class Loss:
    """What every loss declares.

    `formula` names the function on tensors, as "module:function"; it is imported only when it computes.
    """

    formula: str = ""
    source: str | UserMessage = ""
    """The paper or the code that the loss is from."""
    meaning: str = ""
    """What it does, for `fulgurite explain stage.loss` and the page."""
    likelihood: bool = True
    """Whether its mean is a negative log-likelihood in nats, so that ln(vocabulary) is chance."""
    squared: bool = False
    """Whether it is a square of log ratios: it has no upper bound in nats."""
    reaches_zero: bool = False
    """Whether it is zero where an example is learned."""
    lowers_chosen: bool = False
    """Whether it means to make chosen answers less likely too."""
    sft_weight: float = 0.0
    """The usual weight of the chosen answer's negative log-likelihood beside it."""


_families: dict[str, dict[str, Loss]] = {}


def register_loss(family: str, name: str, loss: Loss) -> None:
    """Add a loss to a family: `stage.loss=<name>` in its stages. Raises ValueError if the name
    has another loss already."""
    taken = _families.setdefault(family, {}).get(name)
    if taken is not None and taken != loss:
        raise ValueError(f"stage.loss={name} of {family} is {taken.formula} already")
    _families[family][name] = loss


def list_losses(family: str) -> dict[str, Loss]:
    """The losses of a family by name."""
    return _families.get(family, {})


def list_loss_meanings(family: str) -> dict[str, str]:
    """The losses of a family by name, each with what it does."""
    return {name: loss.meaning for name, loss in list_losses(family).items()}


def find_loss(family: str, name: object) -> Loss:
    """The loss of this name; a loss without declarations if the family has none of it."""
    return list_losses(family).get(str(name), Loss())


def get_loss(stage: Any) -> Any:
    """What the loss of a stage declares: a Loss of its family."""
    return find_loss(stage.losses, getattr(stage, "loss", ""))


def load_formula(loss: Loss, name: str) -> Callable[..., Any]:
    """The function on tensors. Raises ConfigError if it cannot be imported."""
    try:
        return load_function(loss.formula)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            "stage.loss={name} has no formula: {formula!r} cannot be imported ({error}).",
            name=name, formula=loss.formula, error=translate_error(error),
        ) from error


def load_function(named: str) -> Callable[..., Any]:
    """The function that "module:function" names; its module is imported now.
    Raises ImportError, AttributeError, ValueError."""
    module, _, function = named.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found
