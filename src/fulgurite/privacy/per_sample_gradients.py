"""A gradient for each row, by Opacus' hooks: the model is not wrapped, so that its weights keep their names.

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

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.05}
"""By how much of its length a row's gradient may differ between the hooks and a backward pass of its own, by compute
type."""

RowLosses = Callable[[dict[str, Any]], Tensor]
"""The loss [B] of each row of a batch."""


class RowGradients:
    """Each trained weight's gradient for each row, after a backward pass of the rows' summed loss.

    Opacus' GradSampleModule was looked at: it wraps the model, whose names then begin with `_module.`.
    """

    def __init__(self, model: nn.Module) -> None:
        from opacus.grad_sample.grad_sample_module import GradSampleHooks

        if any(getattr(m, "gradient_checkpointing", False) for m in model.modules()):
            raise ConfigError(
                "privacy=dp_sgd needs each layer's inputs once, and gradient checkpointing makes them twice; turn it "
                "off."
            )
        if any(type(m).__name__ == "OptimizedModule" for m in model.modules()):
            raise ConfigError(
                "privacy=dp_sgd looks into each layer, which torch.compile has melted into one; turn compiling off."
            )
        logging.getLogger("opacus").setLevel(logging.ERROR)
        # A first layer's inputs have no gradient of their own, of which torch tells at each backward pass.
        warnings.filterwarnings("ignore", message="Full backward hook is firing when gradients are computed")
        self.model = model
        for module in model.modules():
            if isinstance(module, nn.Embedding) and module.weight.requires_grad:
                # torch gives the padding token's embedding no gradient and Opacus does; here it is often the
                # end-of-turn token
                module.padding_idx = None
        try:
            self.hooks = GradSampleHooks(model, batch_first=True, loss_reduction="sum", strict=True)
        except NotImplementedError as error:
            raise ConfigError(
                f"privacy=dp_sgd cannot be for this model: {str(error)[:200]}; take method=lora."
            ) from error
        self.weights = {name: p for name, p in model.named_parameters() if p.requires_grad}

    def take(self, rows: int) -> list[Tensor]:
        """The gradients [rows, ...] of every trained weight, in the model's order; they and the sums of autograd are
        let go.

        Raises TrainingFailed where a weight has none, or not one for each row: it would be trained without privacy.
        """
        found = []
        for name, weight in self.weights.items():
            gradient = weight.grad_sample  # type: ignore[attr-defined]
            if gradient is None and weight.grad is None:
                gradient = weight.new_zeros(rows, *weight.shape)  # nothing of the loss hangs on it
            if not isinstance(gradient, Tensor) or gradient.shape != (rows, *weight.shape):
                have = "none" if gradient is None else str(getattr(gradient, "shape", "several"))
                raise TrainingFailed(
                    f"privacy=dp_sgd: {name} has no gradient for each of the {rows} rows ({have}); the step was not "
                    f"taken; "
                    "take method=lora."
                )
            found.append(gradient.detach())
            weight.grad_sample = weight.grad = None  # type: ignore[attr-defined]
        return found

    def prove(self, losses: RowLosses, compute: torch.dtype, vocabulary: int) -> None:
        """Raise ConfigError unless two rows' gradients are those of a backward pass each. Asked of the model itself:
        a weight used outside its layer, or by several rows at a time, would be clipped wrongly without a word."""
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
        ) as error:  # layers unknown to Opacus
            if is_shortage(error):
                raise
            said = str(error).removeprefix("privacy=dp_sgd: ").partition(";")[0][:160]
            raise ConfigError(
                f"privacy=dp_sgd cannot be for this model: {said}; take method=lora, without variants."
            ) from error
        for name, *gradients in zip(self.weights, *alone, together, strict=True):
            for row, single in enumerate(gradients[:2]):
                far = float((single.float() - gradients[2][row].float()).norm())
                if not far <= TOLERANCE.get(compute, 0.1) * float(single.float().norm()) + 1e-6:
                    raise ConfigError(
                        f"privacy=dp_sgd cannot be for this model: the gradient of {name} for one row is not what "
                        f"Opacus finds "
                        f"(they differ by {far:.2g}); take method=lora, without variants."
                    )

    def _autograd(self, losses: RowLosses, batch: dict[str, Any]) -> list[Tensor]:
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
    """The model in evaluation, its layers with trained weights in training: Opacus' hooks look at those alone."""

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
    """A padded batch of made-up rows, the n-th of them always the same."""
    ids = torch.zeros(len(lengths), max(lengths), dtype=torch.int64)
    targets = torch.full_like(ids, -100)
    for row, length in enumerate(lengths):
        tokens = (torch.arange(length + 1) * 7 + 3 * (row + first) + 1) % vocabulary
        ids[row, :length], targets[row, :length] = tokens[:-1], tokens[1:]
    return {"input_ids": ids, "targets": targets, "rows": list(range(len(lengths)))}
