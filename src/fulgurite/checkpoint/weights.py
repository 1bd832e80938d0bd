"""Which weights a checkpoint holds: the trained ones, each once, and buffers that training changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from fulgurite.errors import CheckpointError, TrainingFailed


def list_trained_names(module: nn.Module) -> list[str]:
    """The names of the parameters that learn; tied ones appear once."""
    return [name for name, parameter in module.named_parameters() if parameter.requires_grad]


def copy_buffers(module: nn.Module) -> dict[str, Tensor]:
    """Copies of the buffers that belong to a model's saved state. Normally none."""
    saved = set(module.state_dict())
    return {name: buffer.detach().clone() for name, buffer in module.named_buffers() if name in saved}


def select_weights(module: nn.Module, at_start: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The trained parameters, and the buffers that differ from `at_start`. Nothing is copied."""
    parameters, now = dict(module.named_parameters()), dict(module.named_buffers())
    changed = [name for name, before in at_start.items() if not torch.equal(now[name].cpu(), before.cpu())]
    return {name: parameters[name].detach() for name in list_trained_names(module)} | {
        name: now[name] for name in changed
    }


def check_names(module: nn.Module, loaded: Iterable[str], place: str) -> None:
    """Raise CheckpointError unless the loaded weights are those that this run trains (and perhaps buffers)."""
    names, trained = set(loaded), set(list_trained_names(module))
    missing, strange = sorted(trained - names), sorted(names - trained - set(dict(module.named_buffers())))
    if missing or strange:
        which = f"lacks {missing[0]}" if missing else f"holds {strange[0]}, which this run does not train"
        count = len(missing) + len(strange)
        raise CheckpointError(f"{place} {which} ({count} names differ); resume with the method and model it is of.")


def check_finite(weights: Mapping[str, Tensor], place: str) -> None:
    """Raise TrainingFailed, naming the first bad tensor, where a weight is not finite."""
    for name, tensor in weights.items():
        if (tensor.is_floating_point() or tensor.is_complex()) and not bool(torch.isfinite(tensor).all()):
            bad = int((~torch.isfinite(tensor)).sum())
            raise TrainingFailed(
                f"{place} was not written: {bad} of {tensor.numel()} values of {name} are not finite; "
                "the earlier checkpoint is whole; lower optim.lr or trainer.max_grad_norm and go on from there."
            )
