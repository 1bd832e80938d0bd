"""`stage=sft` and `stage=pt`: the next-token loss over the learned tokens. They differ only in their data."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from fulgurite.config.losses import get_loss, load_formula
from fulgurite.loss.language import IGNORE, log_probs_of_logits, mean_by_row, mean_nll_by_row
from fulgurite.model.router_loss import ASKED, build_router
from fulgurite.model.unwrap import unwrap_model
from fulgurite.stage import neftune
from fulgurite.stage.base import Batch, StageModule
from fulgurite.stage.log_probs import LabelHead, find_labels


class LanguageStage(StageModule):
    """Sums the negative log-likelihood of the targets; computes logits only at the targets, in chunks.

    In training it adds the balance loss of a router, if there is one, weighted by the number of targets.
    """

    measures: ClassVar[tuple[str, ...]] = ("router_aux_loss",)

    def build_parts(self) -> None:
        """Builds the loss, the head and the router, and adds NEFTune's noise."""
        super().build_parts()
        stage, causal = self.stage, unwrap_model(self.model)
        declared = get_loss(stage)
        self.dft: bool = getattr(declared, "weighted", False)
        self.formula = load_formula(declared, stage.loss) if declared.formula else None
        noise = getattr(stage, "neftune_alpha", 0.0)
        self.noisy = noise > 0
        if self.noisy:
            neftune.add_noise_hook(causal.get_input_embeddings(), noise)
        self._head = LabelHead(self.model, stage.loss_chunk)
        self.router = (
            build_router(causal, getattr(stage, "router_aux_loss_coef", None)) if not self.run.private else None
        )

    def compute_total_loss(self, batch: Batch) -> Tensor:
        """Returns the sum in nats over the micro-batch's targets."""
        targets_BT = batch["targets"]
        labels_N = find_labels(batch)
        targets_N = targets_BT.flatten()[labels_N]
        inputs = {"input_ids": batch["input_ids"], "position_ids": batch.get("position_ids"), "use_cache": False}
        routed = self.router is not None and self.training
        # NEFTune's noise depends on the length of the rows, which one row of all tokens does not have.
        unpadded = batch.get("unpadded") if self._head.by_documents and not self.noisy else None
        out = self._head.run(
            labels_N, documents=batch.get("documents"), unpadded=unpadded, **inputs, **(ASKED if routed else {})
        )
        # The validation loss is always the negative log-likelihood, so that runs can be compared.
        if self.formula is not None and self.training:
            losses_N: Tensor = self.formula(out.compute_log_probs(targets_N))
            total = losses_N.sum()
        else:
            total = out.compute_nll(targets_N, dft=self.dft and self.training)
        return total + self._balance(out.output.router_logits, batch, unpadded is None) if routed else total

    def _balance(self, logits: Any, batch: Batch, padded: bool) -> Tensor:
        """Returns the balance loss of a micro-batch times its targets, by which it is averaged over a step.

        `padded`: the router saw the padding too.
        """
        assert self.router is not None
        units, real_BT = self.loss_units(batch), None
        if "lengths" in batch and padded:
            real_BT = torch.arange(batch["input_ids"].shape[1], device=self.device) < batch["lengths"][:, None]
        loss = self.router.loss(tuple(logits), real_BT)
        self.accumulate_metric("router_aux_loss", loss.detach() * units, units)
        return loss * (self.router.coefficient * units)

    def compute_row_losses(self, batch: Batch) -> Tensor:
        """Returns the mean in nats over the targets of each example [B], through layers whose inputs the privacy hooks
        record."""
        targets_BT = batch["targets"]
        labels_BT = targets_BT != IGNORE
        rows, length = targets_BT.shape
        # per example: a position layer that is called once for all examples would have one gradient for all of them
        positions = torch.arange(length, device=targets_BT.device).repeat(rows, 1)
        logits_NV = self._head.compute_logits(
            labels_BT, input_ids=batch["input_ids"], position_ids=positions, use_cache=False,
        )
        # The row of each label, in the order in which the mask selects logits and targets.
        rows_N = labels_BT.nonzero()[:, 0]
        if self.formula is not None:
            losses_N: Tensor = self.formula(log_probs_of_logits(logits_NV, targets_BT[labels_BT]))
            return mean_by_row(losses_N, rows_N, rows)
        return mean_nll_by_row(logits_NV, targets_BT[labels_BT], rows_N, rows, dft=self.dft)
