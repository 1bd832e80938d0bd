"""One gradient per row, computed by Opacus' hooks. The model is not wrapped, so that its weights keep their names.

Shapes: B rows, ... a weight's own shape.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fulgurite.errors import ConfigError, TrainingFailed, is_shortage
from fulgurite.language.library_errors import quote_foreign, translate_error

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.05}
"""Largest difference, relative to its norm, between a row's gradient from the hooks and from a separate backward
pass, by compute type."""

RowLosses = Callable[[dict[str, Any]], Tensor]
"""The loss [B] of each row of a batch."""


class RowGradients:
    """The gradient of each trained weight for each row, after a backward pass of the rows' summed loss.

    Opacus' GradSampleModule is not used: it wraps the model, whose names then begin with `_module.`.
    """

    def __init__(self, model: nn.Module) -> None:
        from opacus.grad_sample.grad_sample_module import GradSampleHooks

        if any(getattr(m, "gradient_checkpointing", False) for m in model.modules()):
            raise ConfigError(
                "privacy=dp_sgd needs one forward pass per layer, but gradient checkpointing runs two; turn it off."
            )
        if any(type(m).__name__ == "OptimizedModule" for m in model.modules()):
            raise ConfigError(
                "privacy=dp_sgd needs hooks on each layer, which torch.compile removes; turn torch.compile off."
            )
        logging.getLogger("opacus").setLevel(logging.ERROR)
        # The inputs of the first layer have no gradient; torch warns about it at each backward pass.
        warnings.filterwarnings("ignore", message="Full backward hook is firing when gradients are computed")
        self.model = model
        for module in model.modules():
            if isinstance(module, nn.Embedding) and module.weight.requires_grad:
                # torch computes no gradient for the embedding of the padding token, Opacus does. Here the padding
                # token is often the end-of-turn token, which is trained.
                module.padding_idx = None
        try:
            self.hooks = GradSampleHooks(model, batch_first=True, loss_reduction="sum", strict=True)
        except NotImplementedError as error:
            raise ConfigError(
                "privacy=dp_sgd does not support this model: {reason}; use method=lora.", reason=translate_error(error)
            ) from error
        self.weights = {name: p for name, p in model.named_parameters() if p.requires_grad}

    def take(self, rows: int) -> list[Tensor]:
        """Returns the gradients [rows, ...] of every trained weight in the model's order, and deletes them and
        autograd's sums from the weights.

        Raises TrainingFailed if a weight does not have one gradient per row: it would be trained without privacy.
        """
        found = []
        for name, weight in self.weights.items():
            gradient = weight.grad_sample  # type: ignore[attr-defined]
            if gradient is None and weight.grad is None:
                # The loss does not depend on this weight.
                gradient = weight.new_zeros(rows, *weight.shape)
            if not isinstance(gradient, Tensor) or gradient.shape != (rows, *weight.shape):
                raise TrainingFailed(
                    "privacy=dp_sgd: {name} does not have one gradient for each of the {rows} examples (found "
                    "{found}); the step was not taken. Use method=lora.",
                    name=name, rows=rows, found=None if gradient is None else getattr(gradient, "shape", "several"),
                )
            found.append(gradient.detach())
            # Both are deleted: Opacus would append to the first, autograd add to the second.
            weight.grad_sample = weight.grad = None  # type: ignore[attr-defined]
        return found

    def prove(self, losses: RowLosses, compute: torch.dtype, vocabulary: int) -> None:
        """Raises ConfigError unless the gradients of two rows equal those of a separate backward pass each.

        This is checked on the model itself: a weight that is used outside its layer, or by several rows at a time,
        would be clipped wrongly without an error.
        """
        # Two rows of different length, alone and together.
        alone = [self._autograd(losses, batch) for batch in (probe((5,), vocabulary), probe((3,), vocabulary, first=1))]
        try:
            together = self._hooked(losses, probe((5, 3), vocabulary))
        except (
            TrainingFailed,
            TypeError,
            ValueError,
            RuntimeError,
            AttributeError,
            KeyError,
        ) as error:
            if is_shortage(error):
                raise
            # Opacus raises errors of many types for layers that it does not support.
            reason = str(error).removeprefix("privacy=dp_sgd: ").partition(";")[0][:160]
            raise ConfigError(
                "privacy=dp_sgd does not support this model: {reason}; use method=lora without variants.",
                reason=quote_foreign(reason),
            ) from error
        # `gradients`: of row 0 alone, of row 1 alone, and of both rows from the hooks, [2, ...].
        for name, *gradients in zip(self.weights, *alone, together, strict=True):
            for row, single in enumerate(gradients[:2]):
                far = float((single.float() - gradients[2][row].float()).norm())
                # `not <=` instead of `>`, so that NaN is refused too.
                if not far <= TOLERANCE.get(compute, 0.1) * float(single.float().norm()) + 1e-6:
                    raise ConfigError(
                        "privacy=dp_sgd does not support this model: the gradient of {name} for one example differs "
                        "from Opacus' by {difference:.2g}; use method=lora without variants.",
                        name=name, difference=far,
                    )

    def _autograd(self, losses: RowLosses, batch: dict[str, Any]) -> list[Tensor]:
        # The hooks would store a gradient per row, which nothing takes in this pass.
        self.hooks.disable_hooks()
        try:
            with quiet_dropout(self.model):
                found = torch.autograd.grad(losses(batch).sum(), list(self.weights.values()), allow_unused=True)
        finally:
            self.hooks.enable_hooks()
        return [torch.zeros_like(w) if g is None else g for w, g in zip(self.weights.values(), found, strict=True)]

    def _hooked(self, losses: RowLosses, batch: dict[str, Any]) -> list[Tensor]:
        with quiet_dropout(self.model):
            torch.autograd.backward(losses(batch).sum())
        return self.take(len(batch["rows"]))


class quiet_dropout:
    """Sets the model to evaluation mode, except its layers with trained weights: Opacus' hooks act on layers in
    training mode only."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.modes = model, {m: m.training for m in model.modules()}

    def __enter__(self) -> None:
        self.model.eval()
        for module in self.model.modules():
            module.training = any(p.requires_grad for p in module.parameters(recurse=False))

    def __exit__(self, *_: object) -> None:
        for module, mode in self.modes.items():
            module.training = mode


def probe(lengths: tuple[int, ...], vocabulary: int, first: int = 0) -> dict[str, Any]:
    """Returns a padded batch of artificial rows; the n-th row is always the same."""
    ids = torch.zeros(len(lengths), max(lengths), dtype=torch.int64)
    targets = torch.full_like(ids, -100)
    for row, length in enumerate(lengths):
        # Other tokens in each row; `row + first` makes a row alone equal to the same row among others.
        tokens = (torch.arange(length + 1) * 7 + 3 * (row + first) + 1) % vocabulary
        ids[row, :length], targets[row, :length] = tokens[:-1], tokens[1:]
    return {"input_ids": ids, "targets": targets, "rows": list(range(len(lengths)))}
