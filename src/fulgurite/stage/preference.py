"""`stage=dpo` and `stage=kto`: learning which answers are better, without a reward model.

Shapes: B pairs or judged answers of a micro-batch, S answers (2B for pairs: chosen first, then rejected).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from fulgurite.config.losses import load_formula
from fulgurite.data.loader import Ahead
from fulgurite.data.preference_dataset import PreferenceDataset
from fulgurite.errors import TrainingFailed
from fulgurite.language.message import message
from fulgurite.loss import preference as losses
from fulgurite.precision.policy import Dtypes
from fulgurite.stage.base import Batch, StageModule
from fulgurite.stage.log_probs import AnswerScorer
from fulgurite.stage.preference_table import ReferenceMode, get_row
from fulgurite.stage.reference import AdapterOff, Frozen, ShardedFrozen, disable_dropout, precompute
from fulgurite.stage.sharded import iterate_ahead
from fulgurite.text.console import say

if TYPE_CHECKING:
    from fulgurite.strategy.sharding import Sharder

BALANCE = (1.0, 4 / 3)
"""Weighted good answers to weighted bad ones: TRL's KTO page, after the paper."""
FEW = 16
"""Answers per step below which KTO's baseline is noise (TRL's KTO page: 16 to 128)."""


class PreferenceModule(StageModule):
    """A policy and its reference. Before the first step both are the same model, which is checked in every run."""

    averaged = False
    """Whether the loss uses means over an answer's tokens instead of sums."""

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
        # Another model as the reference differs from the policy at the start, so there is nothing to check.
        self._checked = not self.refers or run.stage.reference is not None

    @property
    def refers(self) -> bool:
        """Whether the loss has a reference."""
        return self.run.stage.reference_mode is not None

    def take_reference(self, model: PreTrainedModel) -> None:
        """Takes the model of `stage.reference` as the reference."""
        disable_dropout(model)
        self._parts["other"] = model
        if self.run.stage.reference_mode is ReferenceMode.copy:
            self._parts["reference"] = Frozen(AnswerScorer(model, self.run.stage.loss_chunk))

    def prepare_fit(self, parts: Sequence[PreferenceDataset], cache: Path, device: torch.device) -> None:
        """Prepares training on these examples; weights must be those of the start."""
        self.prepare_reference(parts, cache, device)

    def prepare_reference(self, parts: Sequence[PreferenceDataset], cache: Path, device: torch.device) -> None:
        """Computes the reference of all examples, on `device`, if stage.reference_mode=precomputed. Weights must be
        those of the start."""
        if self.run.stage.reference_mode is not ReferenceMode.precomputed:
            return
        self.to(device)
        if self._parts["other"] is not None:
            self._parts["other"].to(device)
        other = self._parts["other"]
        # Without another model the reference is the policy, whose weights are those of the start now.
        scorer = AnswerScorer(other, self.run.stage.loss_chunk) if other is not None else self._parts["policy"]
        with self.inference_context():
            settings = [self.dtypes.option, str(self.run.model.attention)]
            adapted = other is None and not self.run.method.begins_at_zero()
            self._parts["reference"] = precompute(scorer, parts, self.run.trainer.micro_batch_size, settings, cache,
                adapted)
        # The numbers are all that is left of it: its weights would fill memory for the whole run.
        self._parts["other"] = None

    def on_fit_start(self) -> None:
        """Moves the reference to the policy's device."""
        super().on_fit_start()
        self.place_reference()

    def place_reference(self) -> None:
        """Moves the reference to the policy's device."""
        reference = self._parts["reference"]
        if reference is not None and not isinstance(reference, ShardedFrozen):
            reference.to(self.device)

    def shard(self, sharder: Sharder) -> None:
        """Distributes the reference too, if it is a second model."""
        super().shard(sharder)
        parts = self._parts
        # Whether a prompt is computed once depends on the micro-batch: the processes would not make the same passes.
        parts["policy"].shares = False
        if isinstance(parts["reference"], Frozen):
            parts["reference"] = ShardedFrozen(parts["reference"].scorer, sharder)

    def loss_units(self, batch: Batch) -> int:
        """Returns the number of pairs, or of judged answers."""
        return len(batch["rows"])

    def compute_answers(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns logp_S of the policy and of its reference (zeros if the loss has none)."""
        policy_S = self._parts["policy"](batch)
        reference_S = self._parts["reference"](batch).detach() if self.refers else torch.zeros_like(policy_S)
        return policy_S, reference_S

    def is_starting(self) -> bool:
        """Returns, once, whether this micro-batch is the first of a run in which policy and reference must be the
        same."""
        if self._checked or self.is_idle or not self.training or self._trainer is None:
            return False
        self._checked = True
        return bool(self.trainer.global_step == 0)

    def check_start(self, found_B: Tensor, expected_B: Tensor) -> None:
        """Raises TrainingFailed if the losses of a run's first micro-batch are not those of a policy that equals its
        reference.

        Both compute the same products, so there is no rounding difference: the tolerance is for kernels that differ
        with and without gradients.
        """
        off, most = float((found_B - expected_B).abs().max()), 1e-6 if self.dtypes.compute == torch.float32 else 1e-3
        # Relative to a loss above 1: ipo's is the square of a margin that may be large.
        most *= max(1.0, float(expected_B.abs().max()))
        # `not <=`, so that nan is refused too.
        if not off <= most:
            raise TrainingFailed(
                "Before the first step policy and reference are the same model, whose loss is {expected:.7f}, but the "
                "loss is {found:.7f} (off by {off:.1e}, rounding is at most {most:.0e}): {cause}",
                expected=float(expected_B.mean()), found=float(found_B.mean()), off=off, most=most, cause=_UNEQUAL,
            )

    def check_table(self, policy_S: Tensor, reference_S: Tensor, count_S: Tensor) -> None:
        """Raises TrainingFailed if a precomputed log-probability is not that of the policy in a run's first
        micro-batch."""
        off_S = (policy_S - reference_S).abs()
        most_S = compute_tolerance(self.dtypes) * count_S.sqrt()
        if bool((off_S <= most_S).all()):
            return
        # nan compares with nothing: it counts as the farthest.
        worst = int((off_S / most_S).nan_to_num(nan=torch.inf).argmax())
        raise TrainingFailed(
            "Before the first step policy and reference are the same model, but an answer of {tokens} tokens has a "
            "log-probability of {now:.2f} now and of {before:.2f} in the precomputed reference (off by {off:.2g}, "
            "rounding is at most {most:.2g}): {cause}",
            tokens=int(count_S[worst]), now=float(policy_S[worst]), before=float(reference_S[worst]),
            off=float(off_S[worst]), most=float(most_S[worst]), cause=_UNEQUAL,
        )


_UNEQUAL = message(
    "the adapter changes the model before training, or the model is not deterministic; use stage.reference_mode=copy, "
    "or report it."
)


def compute_tolerance(dtypes: Dtypes) -> float:
    """Returns how far rounding may move a precomputed log-probability, in nats per square root of the answer's tokens.

    The examples were padded differently, so that other sums were rounded, slightly in each token and at random: the
    errors of an answer add up as the square root of its length. Measured on the bundled model, 96 answers in 16 bits:
    0.04 on average, 0.14 at most (1.5 nats for an answer of 120 tokens); 32 answers in float32: 1.4e-5 at most.
    Allowed is twice the maximum, and seven times in float32. A bound on the loss instead would depend on beta, and
    would not see a shift that both answers share.
    """
    return 1e-4 if dtypes.compute == torch.float32 else 0.3


class DpoStage(PreferenceModule):
    """DPO and its variants. `train/kl` is the mean log ratio of both answers, in nats per answer. The answers are the
    data's, not the policy's own, so it may be negative. Rewards are beta times the log ratio (without a reference,
    times the log-probability)."""

    measures: ClassVar[tuple[str, ...]] = (
        "reward_chosen", "reward_rejected", "reward_margin", "accuracy", "logp_chosen", "logp_rejected", "kl",
    )

    def build_parts(self) -> None:
        """Builds the loss that `stage.loss` names."""
        super().build_parts()
        given, found = self.stage.length_normalize, get_row(self.stage.loss)
        self.declared, self.formula = found, load_formula(found, self.stage.loss)
        self.averaged = bool(given) if found.normalizes and given is not None else found.averaged
        self.ahead = Ahead.rows if found.ranked else Ahead.nothing
        self._paired: dict[int, float] = {}
        self._rewards = [0.0, 0.0]
        """Sum and count of bco_pair's rewards so far, both sides of each pair."""

    def compute_total_loss(self, batch: Batch) -> Tensor:
        """Returns the sum over the micro-batch's pairs."""
        policy_S, reference_S = self.compute_answers(batch)
        # The tokens of each answer: prompt and padding have a target of -100.
        count_S = (batch["targets"] >= 0).sum(1)
        losses_B = self.compute_losses(policy_S, reference_S, count_S, batch)
        if self.is_starting():
            if self.run.stage.reference_mode is ReferenceMode.precomputed:
                self.check_table(policy_S.detach(), reference_S, count_S)
            else:
                self.check_start(losses_B.detach(), self.compute_losses(reference_S, reference_S, count_S, batch))
        chosen_B = policy_S[: len(losses_B)]
        # The SFT term is the mean over the tokens of the chosen answer, whatever the loss divides by.
        if self.run.stage.sft_weight:
            losses_B = losses_B - self.run.stage.sft_weight * chosen_B / count_S[: len(losses_B)]
        self._note(policy_S.detach(), reference_S, count_S)
        return losses_B.sum()

    def compute_losses(self, policy_S: Tensor, reference_S: Tensor, count_S: Tensor, batch: Batch) -> Tensor:
        """Returns the loss of each pair, loss_B, without the SFT term."""
        stage = self.run.stage
        given = {"smoothing": stage.label_smoothing, "gamma": stage.gamma, "tau": stage.tau}
        reads = {"smoothing": self.declared.smoothing, "gamma": self.declared.gamma_share, "tau": self.declared.tau}
        # A parameter that the loss does not declare is no argument of its formula.
        more = {parameter: given[parameter] for parameter, usual in reads.items() if usual is not None}
        if self.declared.shifted:
            more["shift"] = self.shift
        if self.declared.ranked:
            paired = torch.tensor([self._paired[n] for n in batch["rows"]], dtype=policy_S.dtype)
            paired_B = paired.to(policy_S.device, non_blocking=True)
            ranked_B: Tensor = self.formula(torch.sub(*policy_S.chunk(2)), paired_B, stage.get_factor(), **more)
            return ranked_B
        ratio_S = policy_S - reference_S
        chosen_B, rejected_B = (ratio_S / count_S if self.averaged else ratio_S).chunk(2)
        losses_B: Tensor = self.formula(chosen_B, rejected_B, stage.get_factor(), **more)
        return losses_B

    @torch.no_grad()
    def on_step_start(self, batch: Batch) -> None:
        """Computes for aot the reference's margin of the same rank for each pair of the whole step, over all
        processes."""
        position = {number: i for i, number in enumerate(batch["step_rows"])}
        # Row 0 is the policy, row 1 the reference; pairs of other processes stay 0 until the sum.
        both = torch.zeros(2, len(position), dtype=torch.float64, device=self.device)
        for part, answers in iterate_ahead(batch, self.compute_answers):
            columns = [position[n] for n in part["rows"]]
            for side, logp_S in enumerate(answers):
                both[side, columns] = torch.sub(*logp_S.chunk(2)).double()
        self.all_reduce(both)
        self._paired = dict(zip(batch["step_rows"], losses.pair_by_rank(*both).tolist(), strict=True))

    @property
    def shift(self) -> float:
        """bco_pair's reward shift: the mean of all rewards of the earlier steps, 0 in the first step.

        TRL's earlier versions included the current micro-batch, which would make the loss depend on its size.
        """
        return self._rewards[0] / self._rewards[1] if self._rewards[1] else 0.0

    def on_step_end(self, numbers: dict[str, float]) -> None:
        """Updates the running reward shift."""
        if self.declared.shifted:
            pairs = self._window[0]["step_targets"]
            self._rewards[0] += pairs * (numbers["reward_chosen"] + numbers["reward_rejected"])
            self._rewards[1] += 2.0 * pairs

    def get_state(self) -> dict[str, float]:
        """Returns the running reward shift."""
        return {"rewards": self._rewards[0], "rewards_of": self._rewards[1]}

    def restore(self, state: dict[str, float]) -> None:
        """Restores what `get_state` returned."""
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
        self.observe(chosen_B - rejected_B)
        self.accumulate_metric("accuracy", (chosen_B > rejected_B).sum(), pairs)
        for name, logp_B in zip(("logp_chosen", "logp_rejected"), policy_S.chunk(2), strict=True):
            self.accumulate_metric(name, logp_B.sum(), pairs)
        if self.refers:
            self.accumulate_metric("kl", ratio_S.sum(), 2 * pairs)


class KtoStage(PreferenceModule):
    """KTO. `train/kl` is its baseline: the mean log ratio of the step's answers under each other's prompts, over all
    processes.

    It is 0 in a step whose examples all have the same prompt, because there is no answer to another prompt.
    """

    measures: ClassVar[tuple[str, ...]] = ("reward_good", "reward_bad", "logp_good", "logp_bad", "kl")
    ahead = Ahead.mismatched

    def build_parts(self) -> None:
        """Builds the policy's scorer, its reference, and a baseline of 0."""
        super().build_parts()
        self._kl = torch.zeros(())

    def prepare_fit(self, parts: Sequence[PreferenceDataset], cache: Path, device: torch.device) -> None:
        """Warns if a step has too few answers for the baseline, if one class of answers outweighs the other, and if
        there is only one prompt."""
        stage, size = self.run.stage, self.run.trainer.global_batch_size
        if size < FEW:
            say(
                message(
                    "warning: trainer.global_batch_size={size}: KTO estimates its baseline from the other answers of a "
                    "step, which is unreliable with fewer than {few}, and useless with fewer than 4; use 32 to 128.",
                    size=size, few=FEW,
                )
            )
        good = sum(rows.good(i) for rows in parts for i in range(len(rows)))
        bad = sum(map(len, parts)) - good
        ratio = stage.desirable_weight * good / max(stage.undesirable_weight * bad, 1e-9)
        if not min(BALANCE) * 0.99 <= ratio <= max(BALANCE) * 1.01:
            remedy = message("use answers of both kinds")
            if good and bad:
                remedy = message("set stage.desirable_weight={weight:.2g}", weight=bad / good)
            say(
                message(
                    "warning: {good} good and {bad} bad answers, weighted {ratio:.2g} : 1; KTO needs 1:1 to 4:3: "
                    "{remedy}.",
                    good=good, bad=bad, ratio=ratio, remedy=remedy,
                )
            )
        prompts = (rows.prompt(i) for rows in parts for i in range(len(rows)))
        first = next(prompts, None)
        if all(prompt == first for prompt in prompts):
            say(message("warning: all answers have the same prompt, so KTO has no baseline and uses 0."))

    @torch.no_grad()
    def on_step_start(self, batch: Batch) -> None:
        """Computes the baseline of the whole step, which all its micro-batches use."""
        found = torch.zeros(2, dtype=torch.float64, device=self.device)
        for _, (policy_B, reference_B) in iterate_ahead(batch, self.compute_answers):
            found += torch.stack([(policy_B - reference_B).sum().double(), self._as_number(len(policy_B))])
        total, count = self.all_reduce(found)
        # One division for the whole step: a mean of the micro-batches' means would depend on how they are cut.
        self._kl = losses.kto_kl(total, int(count)).float()

    def compute_total_loss(self, batch: Batch) -> Tensor:
        """Returns the sum over the micro-batch's answers."""
        stage, good_B = self.run.stage, batch["good"]
        policy_B, reference_B = self.compute_answers(batch)
        ratio_B = policy_B - reference_B
        weights = (stage.beta, stage.desirable_weight, stage.undesirable_weight)
        losses_B = losses.kto(ratio_B, good_B, self._kl, *weights)
        if self.is_starting():
            self.check_start(
                # At the start every log ratio is 0, and so is the baseline.
                losses_B.detach(), losses.kto(torch.zeros_like(ratio_B), good_B, torch.zeros_like(self._kl), *weights)
            )
        # A bad answer counts as learned if its value is negative.
        value_B = stage.beta * (ratio_B.detach() - self._kl)
        self.observe(torch.where(good_B, value_B, -value_B))
        for name, of_B in (("good", good_B), ("bad", ~good_B)):
            # not by index: the device would have to be waited for
            reward, logp = (torch.where(of_B, x_B.detach(), 0.0).sum() for x_B in (ratio_B, policy_B))
            self.accumulate_metric(f"reward_{name}", stage.beta * reward, of_B.sum())
            self.accumulate_metric(f"logp_{name}", logp, of_B.sum())
        self.accumulate_metric("kl", self._kl * len(good_B), len(good_B))
        return losses_B.sum()
