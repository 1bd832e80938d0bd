"""`stage=dpo` and `stage=kto`: which answers are better, learned without a reward model.

Shapes: B pairs or judged answers of a micro-batch, S answers (2B for pairs: chosen first, then rejected).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from fulgurite.config.losses import load_formula
from fulgurite.data.loader import Ahead
from fulgurite.data.preference_dataset import PreferenceDataset
from fulgurite.errors import TrainingFailed
from fulgurite.loss import preference as losses
from fulgurite.precision.policy import Dtypes
from fulgurite.stage.base import Batch, StageModule
from fulgurite.stage.log_probs import AnswerScorer
from fulgurite.stage.preference_table import ReferenceMode, get_row
from fulgurite.stage.reference import AdapterOff, Frozen, disable_dropout, precompute
from fulgurite.text.console import say

BALANCE = (1.0, 4 / 3)
"""Weighted good answers to weighted bad ones: TRL's KTO page, after the paper."""
FEW = 16
"""Answers a step under which KTO's baseline is noise (TRL's KTO page: 16 to 128)."""


class PreferenceModule(StageModule):
    """A policy and its reference. Before the first step both are one, which is checked in every run."""

    averaged = False
    """Whether the loss is about means over an answer's tokens, in place of whole answers."""

    def build_parts(self) -> None:
        """Builds the policy's scorer and its reference."""
        super().build_parts()
        run, model = self.run, self.model
        disable_dropout(model)
        policy = AnswerScorer(model, run.stage.loss_chunk)
        reference: Any = None
        if run.stage.reference is None and run.stage.reference_mode is ReferenceMode.adapter:
            reference = AdapterOff(policy)
        elif run.stage.reference is None and run.stage.reference_mode is ReferenceMode.copy:
            reference = Frozen(policy.replace_model(copy.deepcopy(model)))
        self._parts: dict[str, Any] = {"policy": policy, "reference": reference, "other": None}
        self._checked = not self.refers or run.stage.reference is not None

    @property
    def refers(self) -> bool:
        """Whether the loss has a reference at all."""
        return self.run.stage.reference_mode is not None

    def take_reference(self, model: PreTrainedModel) -> None:
        """The model of `stage.reference`, in place of the start."""
        disable_dropout(model)
        self._parts["other"] = model
        if self.run.stage.reference_mode is ReferenceMode.copy:
            self._parts["reference"] = Frozen(AnswerScorer(model, self.run.stage.loss_chunk))

    def prepare_fit(self, parts: Sequence[PreferenceDataset], cache: Path, device: torch.device) -> None:
        """Compute the reference of all rows, on `device`, where stage.reference_mode=precomputed. Weights must be
        those of the start."""
        if self.run.stage.reference_mode is not ReferenceMode.precomputed:
            return
        self.to(device)
        if self._parts["other"] is not None:
            self._parts["other"].to(device)
        other = self._parts["other"]
        scorer = AnswerScorer(other, self.run.stage.loss_chunk) if other is not None else self._parts["policy"]
        with self.inference_context():
            settings = [self.dtypes.option, str(self.run.model.attention)]
            adapted = other is None and not self.run.method.begins_at_zero()
            self._parts["reference"] = precompute(scorer, parts, self.run.trainer.micro_batch_size, settings, cache,
                adapted)
        self._parts["other"] = None

    def on_fit_start(self) -> None:
        """The reference goes where the policy is."""
        super().on_fit_start()
        self.place_reference()

    def place_reference(self) -> None:
        """Moves the reference to the policy's device."""
        if self._parts["reference"] is not None:
            self._parts["reference"].to(self.device)

    def loss_units(self, batch: Batch) -> int:
        """Pairs, or judged answers."""
        return len(batch["rows"])

    def compute_answers(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """logp_S of the policy, and of its reference (zeros where the loss has none)."""
        policy_S = self._parts["policy"](batch)
        reference_S = self._parts["reference"](batch).detach() if self.refers else torch.zeros_like(policy_S)
        return policy_S, reference_S

    def is_starting(self) -> bool:
        """Whether this micro-batch is the first of a run in which policy and reference must begin as one; true once."""
        if self._checked or not self.training or self._trainer is None:
            return False
        self._checked = True
        return bool(self.trainer.global_step == 0)

    def check_start(self, found_B: Tensor, expected_B: Tensor) -> None:
        """Raise TrainingFailed where the losses of a run's first micro-batch are not those of a policy that is its
        live reference.

        Both ran the same products, so that rounding is nothing: what is left is for kernels that differ with
        gradients and without.
        """
        off, most = float((found_B - expected_B).abs().max()), 1e-6 if self.dtypes.compute == torch.float32 else 1e-3
        most *= max(1.0, float(expected_B.abs().max()))
        if not off <= most:
            raise TrainingFailed(
                f"Before the first step policy and reference are the same model, whose loss is "
                f"{float(expected_B.mean()):.7f}, and it is "
                f"{float(found_B.mean()):.7f} (off by {off:.1e}, at most {most:.0e} is rounding): {_UNEQUAL}"
            )

    def check_table(self, policy_S: Tensor, reference_S: Tensor, count_S: Tensor) -> None:
        """Raise TrainingFailed where a precomputed log-probability is not that of the policy of a run's first
        micro-batch."""
        off_S = (policy_S - reference_S).abs()
        most_S = compute_tolerance(self.dtypes) * count_S.sqrt()
        if bool((off_S <= most_S).all()):
            return
        worst = int((off_S / most_S).nan_to_num(nan=torch.inf).argmax())
        raise TrainingFailed(
            f"Before the first step policy and reference are the same model, and an answer of {int(count_S[worst])} "
            f"tokens has a "
            f"log-probability of {float(policy_S[worst]):.2f} now and of {float(reference_S[worst]):.2f} in the "
            f"precomputed reference (off "
            f"by {float(off_S[worst]):.2g}, at most {float(most_S[worst]):.2g} is rounding): {_UNEQUAL}"
        )


_UNEQUAL = (
    "the adapter changes the model before it is trained, or the model is not deterministic; take "
    "stage.reference_mode=copy, or report it."
)


def compute_tolerance(dtypes: Dtypes) -> float:
    """How far rounding may take a precomputed log-probability from the policy's own, in nats by the root of the
    answer's tokens.

    The rows were padded otherwise, so that other sums were rounded, a little in each token and at random: the errors
    of an answer add up as the root of its length. Measured on the bundled model, 96 answers in 16 bits: 0.04 on
    average, 0.14 at most (1.5 nats of an answer of 120 tokens); 32 in float32: 1.4e-5 at most. Allowed is twice the
    most, and in float32 seven times. The loss sees them by its slope: of DPO half of beta on each side, so that 4
    nats are 0.2 at a beta of 0.1. A bound on the loss would have to be so wide for every beta, and let the shift
    pass that both answers share; one in nats needs no slope.
    """
    return 1e-4 if dtypes.compute == torch.float32 else 0.3


class DpoStage(PreferenceModule):
    """The DPO family. `train/kl` is the mean log ratio of both answers, in nats an answer: those are the data's, not
    the policy's own, so that it may be negative. Rewards are beta times the log ratio (without a reference, of the
    log-probability)."""

    measures: ClassVar[tuple[str, ...]] = (
        "reward_chosen", "reward_rejected", "reward_margin", "accuracy", "logp_chosen", "logp_rejected", "kl",
    )

    def build_parts(self) -> None:
        """Builds the loss that `stage.loss` names."""
        super().build_parts()
        told, found = self.stage.length_normalize, get_row(self.stage.loss)
        self.declared, self.formula = found, load_formula(found, self.stage.loss)
        self.averaged = bool(told) if found.normalizes and told is not None else found.averaged
        self.ahead = Ahead.rows if found.ranked else Ahead.nothing
        self._paired: dict[int, float] = {}
        self._rewards = [0.0, 0.0]
        """Sum and count of bco_pair's rewards so far, both sides of each pair."""

    def compute_total_loss(self, batch: Batch) -> Tensor:
        """The sum over the micro-batch's pairs."""
        policy_S, reference_S = self.compute_answers(batch)
        count_S = (batch["targets"] >= 0).sum(1)
        losses_B = self.compute_losses(policy_S, reference_S, count_S, batch)
        if self.is_starting():
            if self.run.stage.reference_mode is ReferenceMode.precomputed:
                self.check_table(policy_S.detach(), reference_S, count_S)
            else:
                self.check_start(losses_B.detach(), self.compute_losses(reference_S, reference_S, count_S, batch))
        chosen_B = policy_S[: len(losses_B)]
        if self.run.stage.sft_weight:
            losses_B = losses_B - self.run.stage.sft_weight * chosen_B / count_S[: len(losses_B)]
        self._note(policy_S.detach(), reference_S, count_S)
        return losses_B.sum()

    def compute_losses(self, policy_S: Tensor, reference_S: Tensor, count_S: Tensor, batch: Batch) -> Tensor:
        """The loss of each pair, loss_B, without the SFT term."""
        stage = self.run.stage
        given = {"smoothing": stage.label_smoothing, "gamma": stage.gamma, "tau": stage.tau}
        reads = {"smoothing": self.declared.smoothing, "gamma": self.declared.gamma_share, "tau": self.declared.tau}
        more = {parameter: given[parameter] for parameter, usual in reads.items() if usual is not None}
        if self.declared.shifted:
            more["shift"] = self.shift
        if self.declared.ranked:
            paired_B = torch.tensor(
                [self._paired[n] for n in batch["rows"]], dtype=policy_S.dtype, device=policy_S.device
            )
            ranked_B: Tensor = self.formula(torch.sub(*policy_S.chunk(2)), paired_B, stage.get_factor(), **more)
            return ranked_B
        ratio_S = policy_S - reference_S
        chosen_B, rejected_B = (ratio_S / count_S if self.averaged else ratio_S).chunk(2)
        losses_B: Tensor = self.formula(chosen_B, rejected_B, stage.get_factor(), **more)
        return losses_B

    @torch.no_grad()
    def on_step_start(self, batch: Batch) -> None:
        """For aot: the reference's margin of like rank for each pair of the whole step, over all processes."""
        position = {number: i for i, number in enumerate(batch["step_rows"])}
        both = torch.zeros(2, len(position), dtype=torch.float64, device=self.device)
        for part in batch["ahead"]:
            where = [position[n] for n in part["rows"]]
            for side, logp_S in enumerate(self.compute_answers(part)):
                both[side, where] = torch.sub(*logp_S.chunk(2)).double()
        self.all_reduce(both)
        self._paired = dict(zip(batch["step_rows"], losses.pair_by_rank(*both).tolist(), strict=True))

    @property
    def shift(self) -> float:
        """bco_pair's reward shift: the mean of all rewards of the steps before, 0 in the first.

        TRL's earlier versions counted the micro-batch at hand as well, which would make the loss hang on its size.
        """
        return self._rewards[0] / self._rewards[1] if self._rewards[1] else 0.0

    def on_step_end(self, numbers: dict[str, float]) -> None:
        """The running reward shift."""
        if self.declared.shifted:
            pairs = self._window[0]["step_targets"]
            self._rewards[0] += pairs * (numbers["reward_chosen"] + numbers["reward_rejected"])
            self._rewards[1] += 2.0 * pairs

    def get_state(self) -> dict[str, float]:
        """The running reward shift."""
        return {"rewards": self._rewards[0], "rewards_of": self._rewards[1]}

    def restore(self, state: dict[str, float]) -> None:
        """As `get_state` gave it."""
        self._rewards = [state.get("rewards", 0.0), state.get("rewards_of", 0.0)]

    def _note(self, policy_S: Tensor, reference_S: Tensor, count_S: Tensor) -> None:
        ratio_S = policy_S - reference_S
        chosen_B, rejected_B = (self.run.stage.get_factor() * (ratio_S / count_S if self.averaged else ratio_S)).chunk(
            2
        )
        pairs = len(chosen_B)
        self.accumulate_metric("reward_chosen", chosen_B.sum(), pairs)
        self.accumulate_metric("reward_rejected", rejected_B.sum(), pairs)
        self.accumulate_metric("reward_margin", (chosen_B - rejected_B).sum(), pairs)
        self.accumulate_metric("accuracy", (chosen_B > rejected_B).sum(), pairs)
        for name, logp_B in zip(("logp_chosen", "logp_rejected"), policy_S.chunk(2), strict=True):
            self.accumulate_metric(name, logp_B.sum(), pairs)
        if self.refers:
            self.accumulate_metric("kl", ratio_S.sum(), 2 * pairs)


class KtoStage(PreferenceModule):
    """KTO. `train/kl` is its baseline: the mean log ratio of the step's answers under each other's prompts, over all
    processes.

    It is 0 in a step whose rows all share one prompt, for there is no answer to another.
    """

    measures: ClassVar[tuple[str, ...]] = ("reward_good", "reward_bad", "logp_good", "logp_bad", "kl")
    ahead = Ahead.mismatched

    def build_parts(self) -> None:
        """Warns if a step has too few answers for the baseline."""
        super().build_parts()
        self._kl, size = torch.zeros(()), self.run.trainer.global_batch_size
        if size < FEW:
            say(
                f"warning: trainer.global_batch_size={size}: KTO estimates its baseline from "
                f"the other answers of a step, and "
                f"fewer than 4 tell nothing, fewer than {FEW} little; take 32, up to 128."
            )

    def prepare_fit(self, parts: Sequence[PreferenceDataset], cache: Path, device: torch.device) -> None:
        """Say where one class of answers outweighs the other so far that it drowns it, and where there are no other
        prompts."""
        stage = self.run.stage
        good = sum(rows.good(i) for rows in parts for i in range(len(rows)))
        bad = sum(map(len, parts)) - good
        ratio = stage.desirable_weight * good / max(stage.undesirable_weight * bad, 1e-9)
        if not min(BALANCE) * 0.99 <= ratio <= max(BALANCE) * 1.01:
            remedy = f"stage.desirable_weight={bad / good:.2g}" if good and bad else "answers of both kinds"
            say(
                f"warning: {good} good and {bad} bad answers, weighted {ratio:.2g} : 1; KTO wants 1:1 to 4:3: take "
                f"{remedy}."
            )
        prompts = (rows.prompt(i) for rows in parts for i in range(len(rows)))
        first = next(prompts, None)
        if all(prompt == first for prompt in prompts):
            say("warning: all answers are to one prompt, so that KTO has no baseline: 0 stands in its place.")

    @torch.no_grad()
    def on_step_start(self, batch: Batch) -> None:
        """The baseline of the whole step, so that no micro-batch has one of its own."""
        found = torch.zeros(2, dtype=torch.float64, device=self.device)
        for part in batch["ahead"]:
            policy_B, reference_B = self.compute_answers(part)
            found += torch.stack([(policy_B - reference_B).sum().double(), found.new_tensor(len(policy_B))])
        total, count = self.all_reduce(found)
        self._kl = losses.kto_kl(total, int(count)).float()

    def compute_total_loss(self, batch: Batch) -> Tensor:
        """The sum over the micro-batch's answers."""
        stage, good_B = self.run.stage, batch["good"]
        policy_B, reference_B = self.compute_answers(batch)
        ratio_B = policy_B - reference_B
        weights = (stage.beta, stage.desirable_weight, stage.undesirable_weight)
        losses_B = losses.kto(ratio_B, good_B, self._kl, *weights)
        if self.is_starting():
            self.check_start(
                losses_B.detach(), losses.kto(torch.zeros_like(ratio_B), good_B, torch.zeros_like(self._kl), *weights)
            )
        for name, of_B in (("good", good_B), ("bad", ~good_B)):
            self.accumulate_metric(f"reward_{name}", stage.beta * ratio_B.detach()[of_B].sum(), of_B.sum())
            self.accumulate_metric(f"logp_{name}", policy_B.detach()[of_B].sum(), of_B.sum())
        self.accumulate_metric("kl", self._kl * len(good_B), len(good_B))
        return losses_B.sum()
