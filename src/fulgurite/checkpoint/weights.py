"""Selects and checks the weights of a checkpoint: the trained ones, each once, and buffers that training changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from fulgurite.errors import CheckpointError, TrainingFailed


def list_trained_names(module: nn.Module) -> list[str]:
    """Returns the names of the trained parameters; tied ones appear once."""
    return [name for name, parameter in module.named_parameters() if parameter.requires_grad]


def copy_buffers(module: nn.Module) -> dict[str, Tensor]:
    """Returns copies of the buffers that belong to a model's saved state. Most models have none."""
    # Buffers with persistent=False, such as rotary tables, are computed again and not saved.
    saved = set(module.state_dict())
    return {name: buffer.detach().clone() for name, buffer in module.named_buffers() if name in saved}


def select_weights(module: nn.Module, at_start: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the trained parameters, and the buffers that differ from `at_start`, without copying them."""
    parameters, now = dict(module.named_parameters()), dict(module.named_buffers())
    # Compared by value: nothing marks a buffer as changed. Batch norms of a few architectures do change.
    changed = [name for name, before in at_start.items() if not torch.equal(now[name].cpu(), before.cpu())]
    return {name: parameters[name].detach() for name in list_trained_names(module)} | {
        name: now[name] for name in changed
    }


def check_names(module: nn.Module, loaded: Iterable[str], place: str) -> None:
    """Raises CheckpointError unless the loaded weights are those that this run trains (and perhaps buffers)."""
    # Extra names are wrong unless they are buffers: a weight that is loaded and not trained would be overwritten
    # silently.
    names, trained = set(loaded), set(list_trained_names(module))
    missing, strange = sorted(trained - names), sorted(names - trained - set(dict(module.named_buffers())))
    if missing:
        raise CheckpointError(
            "{place} lacks {name} ({count} names differ); resume with the method and the model of the checkpoint.",
            place=place, name=missing[0], count=len(missing) + len(strange),
        )
    if strange:
        raise CheckpointError(
            "{place} contains {name}, which this run does not train ({count} names differ); resume with the method "
            "and the model of the checkpoint.",
            place=place, name=strange[0], count=len(strange),
        )


def check_finite(weights: Mapping[str, Tensor], place: str) -> None:
    """Raises TrainingFailed, naming the first bad tensor, if a weight is not finite."""
    for name, tensor in weights.items():
        if (tensor.is_floating_point() or tensor.is_complex()) and not bool(torch.isfinite(tensor).all()):
            bad = int((~torch.isfinite(tensor)).sum())
            raise TrainingFailed(
                "{path} was not written: {bad} of {count} values of {name} are not finite. The earlier checkpoint is "
                "intact; lower optim.lr or trainer.max_grad_norm and resume from it.",
                path=place, bad=bad, count=tensor.numel(), name=name,
            )
