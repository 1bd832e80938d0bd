"""The reference model in three forms: the policy without its adapter, a frozen copy, or precomputed log-probabilities.

Shapes: S answers of a micro-batch (both sides of its pairs), T tokens, E examples.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fulgurite.data.preference_dataset import PreferenceDataset, collate_preferences
from fulgurite.errors import ConfigError, RequestError
from fulgurite.files.atomic import replace_file
from fulgurite.language.library_errors import translate_system_error
from fulgurite.language.message import UserMessage, message
from fulgurite.method.modules import get_decoder_layers
from fulgurite.model.peft_internals import PARAMETER
from fulgurite.stage.log_probs import AnswerScorer, Batch, Scorer

if TYPE_CHECKING:
    from fulgurite.strategy.sharding import Sharder


class Reference(Protocol):
    """Computes log-probabilities of the reference model, without a gradient."""

    def __call__(self, batch: Batch) -> Tensor:
        """Returns what the policy's scorer returns, under the reference."""

    def to(self, device: torch.device) -> None:
        """Moves the reference to the device of the policy; Lightning moves only the stage's own modules."""


class AdapterOff:
    """The policy's own model with its adapter disabled. Raises ConfigError if other parameters are trained too."""

    def __init__(self, policy: Scorer) -> None:
        if reason := explain_unfit_adapter(policy.model):
            raise ConfigError(
                "stage.reference_mode=adapter is not possible: {reason}; use stage.reference_mode=copy or precomputed.",
                reason=reason,
            )
        self.policy = policy

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Tensor:
        """Returns the policy's log-probabilities without the adapter."""
        with self.policy.model.disable_adapter():
            return self.policy(batch)

    def to(self, device: torch.device) -> None:
        """Does nothing: the policy has been moved."""


class Frozen:
    """A second model that never changes. It is not a module of the stage, which would train and save it."""

    def __init__(self, scorer: Scorer) -> None:
        scorer.model.requires_grad_(False)
        self.scorer = scorer

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Tensor:
        """Returns the log-probabilities of the frozen model."""
        return self.scorer(batch)

    def to(self, device: torch.device) -> None:
        """Moves the frozen model."""
        self.scorer.model.to(device)


class ShardedFrozen(nn.Module):
    """A second model that never changes, distributed over all processes. It is a module, because gathering its weights
    belongs to a forward pass; the stage does not register it."""

    def __init__(self, scorer: Scorer, sharder: Sharder) -> None:
        super().__init__()
        self.model, self._scorer = scorer.model, scorer
        if isinstance(scorer, AnswerScorer):
            # Whether a prompt gets a pass of its own depends on the batch, and all processes must make the same passes.
            scorer.shares = False
        sharder.shard(self, get_decoder_layers(scorer.model))

    @torch.no_grad()
    def forward(self, batch: Batch) -> Tensor:
        """Returns the log-probabilities of the frozen model."""
        return self._scorer(batch)


def explain_unfit_adapter(model: Any) -> UserMessage | None:
    """Returns why the model without its adapter changes during training, or None if it does not."""
    if not hasattr(model, "disable_adapter"):
        return message("this method has no adapter")
    outside = [name for name, p in model.named_parameters() if p.requires_grad and PARAMETER not in name]
    return message("{name} is trained too", name=outside[0]) if outside else None


def build_start_reference(policy: Scorer, identity: bool) -> Reference:
    """Builds a reference of the model as it is now. `identity`: its method changes no output before the first step.

    An adapter that changes nothing yet is disabled, which needs no memory; any other model is copied.
    """
    if identity and explain_unfit_adapter(policy.model) is None:
        return AdapterOff(policy)
    return Frozen(policy.replace_model(copy.deepcopy(policy.model)))


class Precomputed:
    """Log-probabilities by example: values_E2, kept on disk under a hash of all that they depend on."""

    def __init__(self, values_E2: Tensor) -> None:
        self.values_E2 = values_E2

    def __call__(self, batch: Batch) -> Tensor:
        """Returns logp_S of the reference."""
        sides = len(batch["input_ids"]) // max(len(batch["examples"]), 1)
        # By side, then by example: the chosen answers of a batch come before the rejected.
        return self.values_E2[batch["examples"], :sides].T.reshape(-1)

    def to(self, device: torch.device) -> None:
        """Moves the table to the device of the batches."""
        self.values_E2 = self.values_E2.to(device)


def precompute(
    scorer: Scorer,
    parts: Sequence[PreferenceDataset],
    micro_batch: int,
    settings: Sequence[str],
    cache: Path,
    adapted: bool = False,
) -> Precomputed:
    """Computes the reference's log-probabilities of every example, or reads them from the cache if model, data and
    `settings` are the same.

    `adapted`: the model's adapter does not start at zero, and so is part of the reference. Call it in the run's compute
    type and without gradients. Raises RequestError if the cache cannot be written.
    """
    path = cache / "reference" / f"{_compute_key(scorer.model, parts, settings, adapted)}.safetensors"
    try:
        return Precomputed(load_file(path)["values"])
    except (OSError, SafetensorError, KeyError):
        pass  # not there yet, or damaged
    device = next(scorer.model.parameters()).device
    # nan, so that an example which was never computed shows in the loss.
    values = torch.full((len(parts[0].encoded), 2), torch.nan)
    for part in parts:
        # By length, for little padding; each example has its own place in `values`.
        ordered = [int(n) for n in np.argsort(part.lengths, kind="stable")]
        for start in range(0, len(ordered), micro_batch):
            batch = collate_preferences(part, ordered[start : start + micro_batch])
            names = ("input_ids", "targets", "label_positions", "unpadded")
            moved = {name: batch[name].to(device) for name in names if name in batch} | {"shared": batch["shared"]}
            # [sides · E] to [E, sides]: the scorer returns all chosen answers before the rejected ones.
            found = scorer(moved).float().cpu().view(-1, len(batch["examples"])).T
            values[batch["examples"], : found.shape[1]] = found
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(path) as draft:
            save_file({"values": values}, draft)
    except OSError as error:
        reason = translate_system_error(error)
        raise RequestError(
            "The reference cache {path} cannot be written ({reason}); set FULGURITE_CACHE to a folder with free space.",
            path=path, reason=reason,
        ) from error
    return Precomputed(values)


def _compute_key(model: nn.Module, parts: Iterable[PreferenceDataset], settings: Sequence[str], adapted: bool) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(json.dumps([part.encoded.key, *settings]).encode())
        # Which examples are used and where each is cut, in any order.
        digest.update(np.unique(np.stack([part.numbers, part.cuts]), axis=1).tobytes())
    for name, tensor in sorted(model.state_dict().items()):
        # An adapter that is off in the reference may change without changing it.
        if adapted or PARAMETER not in name:
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]


def disable_dropout(model: nn.Module) -> None:
    """Sets every dropout probability to 0, also those that attention reads as a number, because policy and reference
    must be equal at the start."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if name.endswith("dropout") and isinstance(value, float):
                setattr(module, name, 0.0)
