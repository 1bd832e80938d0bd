"""The model that a policy may not stray from, in three ways: without the adapter, as a frozen copy, or computed beforehand.

Shapes: S answers of a micro-batch (both sides of its pairs), T tokens, E examples.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from fulgurite.data.preference_dataset import PreferenceDataset, collate_compared
from fulgurite.errors import ConfigError, RequestError
from fulgurite.files.atomic import replace_file
from fulgurite.loss.language import IGNORE, log_probs, log_probs_of_logits, sums
from fulgurite.model.probe import plain_head
from fulgurite.model.unwrap import inner
from fulgurite.stage import shared_prefix as shared

Batch = dict[str, Any]
ADAPTER = ".default"
"""What peft writes into the names of an adapter's parameters, of every kind; switched off, none of them counts."""


class Scorer:
    """Sums the log-probability of each answer under a model; logits are made only where there are targets, in chunks.

    It keeps the model out of the stage's parameters: a reference is neither trained nor saved.
    """

    def __init__(self, model: PreTrainedModel, chunk: int) -> None:
        self.model, self.chunk = model, chunk
        self.causal = inner(model)
        self.head = plain_head(self.causal)
        self.shares = shared.possible(self.causal)

    def __call__(self, batch: Batch) -> Tensor:
        """logp_S in nats, float32. A prompt that both sides share is computed once where that pays."""
        ids_ST, targets_ST = batch["input_ids"], batch["targets"]
        inputs: dict[str, Any] = {"input_ids": ids_ST, "use_cache": False}
        sides, longest = ids_ST.shape
        if self.shares and shared.pays(sides, longest, once := batch["shared"]):
            cache = shared.prompted(self.causal, ids_ST[: sides // 2, :once])
            inputs = {"input_ids": ids_ST[:, once:], "past_key_values": cache, "use_cache": True}
            targets_ST = targets_ST[:, once:]
        learned_ST = targets_ST != IGNORE
        if self.head is None:
            logp_N = log_probs_of_logits(self.causal(**inputs).logits[learned_ST], targets_ST[learned_ST])
        else:
            hidden_STD = self.causal.get_decoder()(**inputs).last_hidden_state
            logp_N = log_probs(hidden_STD[learned_ST], self.head.weight, targets_ST[learned_ST], bias_V=self.head.bias, chunk=self.chunk)
        return sums(logp_N, learned_ST)


class AdapterOff:
    """The policy's own model with its adapter switched off."""

    def __init__(self, policy: Scorer) -> None:
        # whatever else is trained (a thawed layer, a trained embedding) would move the reference as well
        strange = [n for n, p in policy.model.named_parameters() if p.requires_grad and ADAPTER not in n]
        adapter = hasattr(policy.model, "disable_adapter")
        if not adapter or strange:
            what = f"{strange[0]} is trained besides" if adapter else "this method has no adapter"
            raise ConfigError(f"stage.reference_mode=adapter is not possible: {what}; take stage.reference_mode=copy or precomputed.")
        self.policy = policy

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Tensor:
        """logp_S of the reference."""
        with self.policy.model.disable_adapter():
            return self.policy(batch)

    def to(self, device: torch.device) -> None:
        """It is where the policy is."""


class Frozen:
    """A model of its own that never changes."""

    def __init__(self, model: PreTrainedModel, chunk: int) -> None:
        self.scorer = Scorer(model.requires_grad_(False), chunk)

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Tensor:
        """logp_S of the reference."""
        return self.scorer(batch)

    def to(self, device: torch.device) -> None:
        """Lightning moves the stage's own modules; this is none."""
        self.scorer.model.to(device)


class Precomputed:
    """Log-probabilities by example: values_E2, kept on disk under a hash of all that they depend on."""

    def __init__(self, values_E2: Tensor) -> None:
        self.values_E2 = values_E2

    def __call__(self, batch: Batch) -> Tensor:
        """logp_S of the reference."""
        sides = len(batch["input_ids"]) // max(len(batch["examples"]), 1)
        return self.values_E2[batch["examples"], :sides].T.reshape(-1)

    def to(self, device: torch.device) -> None:
        """The table follows the batches."""
        self.values_E2 = self.values_E2.to(device)


def precompute(
    scorer: Scorer, parts: Sequence[PreferenceDataset], micro_batch: int, settings: Sequence[str], cache: Path, adapted: bool = False
) -> Precomputed:
    """The reference's log-probabilities of every row, from the cache where model, data and `settings` are the same.

    `adapted`: the model's adapter begins at something, and so is part of the reference. Call it in the run's compute type and without
    gradients. Raises RequestError where the cache cannot be written.
    """
    path = cache / "reference" / f"{_key(scorer.model, parts, settings, adapted)}.safetensors"
    try:
        return Precomputed(load_file(path)["values"])
    except (OSError, SafetensorError, KeyError):
        pass  # not there yet, or damaged
    device = next(scorer.model.parameters()).device
    values = torch.full((len(parts[0].encoded), 2), torch.nan)
    for part in parts:
        ordered = [int(n) for n in np.argsort(part.lengths, kind="stable")]
        for start in range(0, len(ordered), micro_batch):
            batch = collate_compared(part, ordered[start : start + micro_batch])
            moved = {name: batch[name].to(device) for name in ("input_ids", "targets")} | {"shared": batch["shared"]}
            found = scorer(moved).float().cpu().view(-1, len(batch["examples"])).T
            values[batch["examples"], : found.shape[1]] = found
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(path) as draft:
            save_file({"values": values}, draft)
    except OSError as error:
        reason = error.strerror or error
        raise RequestError(f"{path} cannot be written ({reason}); set FULGURITE_CACHE to a folder with room.") from error
    return Precomputed(values)


def _key(model: nn.Module, parts: Iterable[PreferenceDataset], settings: Sequence[str], adapted: bool) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(json.dumps([part.encoded.key, *settings]).encode())
        digest.update(np.unique(np.stack([part.numbers, part.cuts]), axis=1).tobytes())
    for name, tensor in sorted(model.state_dict().items()):
        if adapted or ADAPTER not in name:
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]


def quiet_dropout(model: nn.Module) -> None:
    """No dropout, in modules or as a number that attention reads: policy and reference must agree before the first step."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if name.endswith("dropout") and isinstance(value, float):
                setattr(module, name, 0.0)
