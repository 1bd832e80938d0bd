"""Base of PPO and GRPO: a stage that learns from its own answers.

These stages make their batches themselves. Everything else is as in other stages: a training batch names the prompts
of its rollout, the rollout is made between two optimizer steps before its first step, and each micro-batch of it then
has a loss. So Lightning's automatic optimisation is used, with its clipping, accumulation, schedules and precision. A
rollout that is not used up is saved in the checkpoint. The model stays in evaluation mode, because dropout would make
two log-probabilities of one policy differ. Shapes: N answers of a rollout, B answers of a micro-batch, T tokens.
"""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from fulgurite.data.dataset import AnyRows, TokenDataset
from fulgurite.data.example import Conversation, to_dicts
from fulgurite.data.prompt_dataset import PromptDataset
from fulgurite.data.sampler import Ints, StepSampler
from fulgurite.data.source import Source
from fulgurite.data.template import Template
from fulgurite.errors import ConfigError, TrainingFailed
from fulgurite.language.message import message
from fulgurite.loss.policy import k3, masked_mean, measure_start
from fulgurite.model.load import Loaded
from fulgurite.model.tokenizer_check import get_padding
from fulgurite.stage import config as c
from fulgurite.stage.base import Batch, StageModule
from fulgurite.stage.log_probs import TokenScorer
from fulgurite.stage.reference import build_start_reference
from fulgurite.stage.reward_functions import Answered, check_columns, compute_rewards, resolve, shorten_names
from fulgurite.stage.rollout import Drawn, Rollouts, TransformersRollouts
from fulgurite.stage.rollout_buffer import Buffer, Cuts, RolloutOrder
from fulgurite.stage.rollout_share import Share, generate_shared, share_rewards
from fulgurite.stage.vllm_rollout import VllmRollouts

VALIDATION = 2**31
"""The rollout number of an evaluation: far from those of training."""
EXACT = 1e-6
"""At the first step the ratio is 1 and the divergence 0 within this, in float32."""
ROUNDED = 2e-2
"""The same in 16 bits, because a GPU may choose another kernel with gradients than without."""
SEEN = ("entropy", "clipped_share", "moved")
"""The means over the tokens of a step that are logged beside the loss."""
DRAWN = {"fp32": 1e-3}
DRAWN_ROUNDED = 0.15
"""Maximum mean difference between a token's log-probabilities in sampling and in training (bf16, bundled model:
0.05)."""


class Objective(Protocol):
    """The objective of a rollout stage; the base of PPO's, of GRPO's, and of those of other packages."""

    refers: bool
    """Whether it needs the divergence from the model at the start."""
    kl_limit: float
    """The divergence above which the run stops."""

    def prepare(self, buffer: Buffer, rewards_N: Tensor, cut_N: Tensor) -> None:
        """Computes what `compute_loss` needs, and the rollout's numbers."""

    def compute_divisor(self, buffer: Buffer, answers: list[int]) -> float:
        """Returns the divisor of an optimizer step's sum."""

    def compute_loss(self, batch: Batch, new_BT: Tensor, values_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the sum over the micro-batch, and which tokens were clipped, bool [B, T]."""

    def get_state(self) -> dict[str, Any]:
        """Returns what a resumed run needs."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Restores what `get_state` returned."""


class PolicyStage(StageModule):
    """Generates answers, rewards them, and trains on them with its objective."""

    stage: c.Policy
    objective_type: ClassVar[type[Any]]
    """The class of its Objective, which is made from the stage's config."""

    def build_parts(self) -> None:
        """Builds the objective, the scorer, the reference and the rewards."""
        super().build_parts()
        self.objective: Objective = type(self).objective_type(self.stage)
        self.scorer = TokenScorer(self.model, self.stage.temperature, self.stage.loss_chunk)
        self.reference = (
            build_start_reference(self.scorer, self.run.method.begins_at_zero()) if self.objective.refers else None
        )
        self.rewards = [resolve(word) for word in self.stage.reward]
        self.weights = self.stage.reward_weights or [1.0] * len(self.rewards)
        self.buffer: Buffer | None = None
        self.cuts: Cuts
        self.rollouts: Rollouts
        self.asked: PromptDataset
        self.asked_val: PromptDataset | None = None
        self._seen: dict[str, Tensor] = {}
        self._starts: list[Tensor] = []
        self._negative = 0
        self._scores: list[float] = []
        self._words: Any = None

    def train(self, mode: bool = True) -> PolicyStage:
        """Sets the mode of the stage; the model stays in evaluation mode."""
        super().train(mode)
        self.model.eval()
        return self

    def values(self, hidden_BTD: Tensor) -> Tensor:
        """Returns the estimated reward from each position on, [B, T]; zeros if the objective has no value head."""
        return hidden_BTD.new_zeros(hidden_BTD.shape[:2], dtype=torch.float32)

    # -- data -----------------------------------------------------------------------------------------------------

    def setup_data(
        self, source: Source, rows: AnyRows, val: AnyRows | None, loaded: Loaded, template: Template
    ) -> None:
        """Takes the prompts, and builds the engine that answers them. Raises ConfigError if prompt and answer are
        longer than the model allows."""
        super().setup_data(source, rows, val, loaded, template)
        warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")  # this is intended
        assert isinstance(rows, TokenDataset)
        every = [rows, val] if isinstance(val, TokenDataset) and len(val) else [rows]
        longest, room = max(int(max(part.lengths)) for part in every), loaded.length - self.stage.max_new_tokens
        if longest > room:
            raise ConfigError(
                "stage.max_new_tokens={new} after a prompt of {longest} tokens is more than the {length} tokens that "
                "the model can read; lower it, or set data.max_length={room}.",
                new=self.stage.max_new_tokens, longest=longest, length=loaded.length, room=max(room, 8),
            )
        self.asked = PromptDataset(source, rows)
        self.asked_val = PromptDataset(source, val) if isinstance(val, TokenDataset) else None
        check_columns(self.rewards, self.asked.names)
        self._words = loaded.tokenizer
        pad = get_padding(loaded.tokenizer, loaded.model.get_input_embeddings().num_embeddings)
        self.rollouts = self._rollouts(template.stop_ids, pad, [rows, *([val] if val is not None else [])])

    def _rollouts(self, stop_ids: Sequence[int], pad: int, prompts: Sequence[AnyRows]) -> Rollouts:
        stage = self.stage
        usual: dict[str, Any] = {
            "max_new_tokens": stage.max_new_tokens,
            "temperature": stage.temperature,
            "batch": stage.rollout_batch,
        }
        if stage.engine is c.Engine.vllm:
            longest = max(int(max(rows.lengths, default=0)) for rows in prompts) + stage.max_new_tokens
            return VllmRollouts(self.model, stop_ids, longest=longest, dtype=self.dtypes.compute, **usual)
        return TransformersRollouts(self.model, stop_ids, pad, context=self.inference_context, **usual)

    def close(self) -> None:
        """Closes the engine."""
        self.rollouts.close()

    def build_sampler(self, lengths: Ints, processes: int, rank: int) -> StepSampler:
        """Builds the sampler, whose steps are parts of rollouts. Raises ConfigError if a rollout has fewer answers than
        steps."""
        t, answers = self.run.trainer, self.run.trainer.global_batch_size * self.stage.count_answers()
        if answers < self.stage.minibatches:
            raise ConfigError(
                "stage.minibatches={minibatches} is more than the {answers} answers of a rollout; lower it.",
                minibatches=self.stage.minibatches, answers=answers,
            )
        self.cuts = Cuts(answers, self.stage.minibatches, self.stage.epochs_per_rollout, t.micro_batch_size,
            self.run.seed, processes)
        return RolloutOrder(len(lengths), t.global_batch_size, self.cuts, self.run.seed, self.run.data.shuffle)

    @property
    def validation_batch_size(self) -> int:
        """The number of prompts that are answered at a time."""
        return int(self.stage.rollout_batch or 1)

    def on_fit_start(self) -> None:
        """Moves the reference to the device of the policy."""
        if self.reference is not None:
            self.reference.to(self.device)

    # -- rollouts -------------------------------------------------------------------------------------------------

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Makes the rollout of the next step, between two optimizer steps and after a checkpoint."""
        super().on_train_batch_start(batch, batch_idx)
        number = self.trainer.global_step // self.cuts.steps
        if not self._window and (self.buffer is None or self.buffer.number != number):
            self.buffer = self.roll(batch["rows"], number)

    def roll(self, prompts: list[int], number: int) -> Buffer:
        """Generates and rewards answers, and computes the log-probabilities of policy and reference."""
        rows = [row for row in prompts for _ in range(self.stage.count_answers())]
        ids = [self.asked.ids(row) for row in rows]
        share = Share(*self._place(), self.device, self.all_reduce)
        size = self.validation_batch_size, self.stage.max_new_tokens
        drawn = generate_shared(self.rollouts, ids, [self.run.seed, number], *size, share)
        names = [reward.name for reward in self.rewards]
        total, each = share_rewards(lambda: self.score_answers(self.asked, rows, drawn), names, len(rows), share)
        buffer = Buffer.of(number, rows, ids, drawn, self.device)
        rewards_N = torch.tensor(total, dtype=torch.float32, device=self.device)
        cut_N = ~torch.tensor(drawn.stopped, device=self.device)
        lengths = [len(t) for t in drawn.tokens]
        buffer.record = {
            "train/reward": statistics.fmean(total), "train/reward_std": statistics.pstdev(total),
            "train/answer_length": statistics.fmean(lengths), "train/cut": float(cut_N.float().mean()),
        }
        if len(each) > 1:
            shown = shorten_names(each)
            buffer.record |= {f"train/reward/{shown[name]}": statistics.fmean(values) for name, values in each.items()}
        self._note(buffer)
        self._refuse_another_policy(buffer)
        self.objective.prepare(buffer, rewards_N, cut_N)
        if "train/kl" in buffer.record:
            self._refuse_runaway(buffer)
        return buffer

    def score_answers(
        self, asked: PromptDataset, rows: list[int], drawn: Drawn
    ) -> tuple[list[float], dict[str, list[float]]]:
        """Returns the weighted reward of each answer, and each reward's own. Raises RequestError if a reward returns
        wrong numbers."""
        turns = [asked.messages(row) for row in rows]
        columns: dict[str, list[Any]] = {name: [asked.columns(row)[name] for row in rows] for name in asked.names}
        columns["messages"] = [to_dicts(turn) for turn in turns]
        functions = [list(Conversation.of(turn).tools) for turn in turns]
        if any(functions):
            columns["tools"] = functions
        bare = [t[:-1] if stopped else t for t, stopped in zip(drawn.tokens, drawn.stopped, strict=True)]
        texts = [str(self._words.decode(tokens, skip_special_tokens=True)) for tokens in bare]
        return compute_rewards(self.rewards, self.weights, Answered(
            [turn[-1].content for turn in turns], texts, [len(t) for t in drawn.tokens], drawn.stopped,
            [asked.place(row) for row in rows], columns,
        ))

    def _note(self, buffer: Buffer) -> None:
        """Computes `old`, `values` and `reference`, in the micro-batches of the first pass that this process will train
        on, so that its first step has the same numbers."""
        names = ["old", "values", *(["reference"] if self.reference is not None else [])]
        made = {name: torch.zeros_like(buffer.of_token["drawn"]) for name in names}
        for phase in range(self.cuts.minibatches):
            for answers in filter(None, self._list_own(self.cuts.step(buffer.number, phase, buffer.lengths))):
                batch = buffer.build_micro_batch(answers)
                with self.inference_context():
                    old_BT, _, hidden_BTD = self.scorer.score(batch)
                    found = {"old": old_BT, "values": self.values(hidden_BTD)}
                    if self.reference is not None:
                        found["reference"] = self.reference(batch)
                for name, values_BT in found.items():
                    made[name][batch["own"], : values_BT.shape[1]] = values_BT
        buffer.of_token |= {name: self.all_reduce(values_NT) for name, values_NT in made.items()}

    def _place(self) -> tuple[int, int]:
        """Returns the rank of this process and the number of processes; outside of a fit there is one."""
        return (int(self.trainer.global_rank), int(self.trainer.world_size)) if self._trainer is not None else (0, 1)

    def _list_own(self, cuts: list[list[int]]) -> list[list[int]]:
        """Returns this process's micro-batches of a step."""
        rank, processes = self._place()
        return cuts[rank::processes]

    # -- learning -------------------------------------------------------------------------------------------------

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Returns the loss of the next micro-batch of the rollout."""
        assert self.buffer is not None
        cuts = self.cuts.step(self.buffer.number, self.trainer.global_step % self.cuts.steps, self.buffer.lengths)
        whole = [n for cut in cuts for n in cut]
        own = self.buffer.build_micro_batch(self._list_own(cuts)[len(self._window)])
        own["step_targets"] = self.objective.compute_divisor(self.buffer, whole)
        own["step_labels"] = self.buffer.count_tokens(whole)
        return super().training_step(own, batch_idx)

    def compute_total_loss(self, batch: Batch) -> Tensor:
        """Returns the sum of the objective over the micro-batch; at the first step the ratio must be 1."""
        new_BT, entropy_BT, hidden_BTD = self.scorer.score(batch)
        mask_BT = (batch["targets"] != -100).float()
        if self.trainer.global_step == 0:
            reference_BT = batch.get("reference", new_BT.detach())
            self._starts.append(measure_start(new_BT.detach(), batch["old"], reference_BT, mask_BT))
        loss, clipped_BT = self.objective.compute_loss(batch, new_BT, self.values(hidden_BTD))
        moved = k3(batch["old"], new_BT.detach())  # of samples of the policy that drew them
        for name, values in zip(SEEN, (entropy_BT, clipped_BT.float(), moved), strict=True):
            found = (values * mask_BT).sum().detach().double()
            self._seen[name] = self._seen[name] + found if name in self._seen else found
        return loss

    def configure_gradient_clipping(self, *args: Any, **kwargs: Any) -> None:
        self._refuse_unequal_start()
        super().configure_gradient_clipping(*args, **kwargs)

    def _record(self, norm: float, clipped: bool, rate: float, private: dict[str, float]) -> None:
        assert self.buffer is not None
        tokens = max(self._window[0]["step_labels"], 1)
        super()._record(norm, clipped, rate, private)
        none = torch.zeros((), dtype=torch.float64, device=self.device)
        seen = torch.stack([self._seen.get(name, none) for name in SEEN])
        totals = dict(zip(SEEN, self.all_reduce(seen).tolist(), strict=True))
        self.step_record |= self.buffer.record | {f"train/{name}": total / tokens for name, total in totals.items()}
        self._seen = {}

    # -- what must hold -------------------------------------------------------------------------------------------

    def _refuse_another_policy(self, buffer: Buffer) -> None:
        """Raises TrainingFailed if sampling and training are not the same policy."""
        gap = masked_mean((buffer.of_token["drawn"] - buffer.of_token["old"]).abs(), buffer.mask_NT)
        buffer.record["train/sampling_gap"] = float(gap)
        most = DRAWN.get(self.dtypes.option, DRAWN_ROUNDED)
        if not float(gap) <= most:
            raise TrainingFailed(
                "Rollout {number}: the log-probabilities of a token in sampling and in training differ by {gap:.2g} on "
                "average, more than {most:g}: they are not the same policy. Nothing was learned from this rollout. "
                "Likely causes: weights that are not finite, or a model whose cache gives other numbers than its full "
                "pass (model.attention=eager).",
                number=buffer.number + 1, gap=float(gap), most=most,
            )

    def _refuse_unequal_start(self) -> None:
        """Raises TrainingFailed if the policy differs, before the first step, from what sampled or from the reference.
        Called once for all micro-batches, because each look waits for the device."""
        if not self._starts:
            return
        worst = torch.stack(self._starts).amax(0).tolist()
        self._starts = []
        most = EXACT if self.dtypes.option == "fp32" else ROUNDED
        for what, off in zip((message("ratio"), message("divergence from the reference")), worst, strict=True):
            if not off <= most:
                raise TrainingFailed(
                    "Step 1: the {what} is off by {off:.2g} before anything was learned, more than {most:g}: the "
                    "policy in training is not the one that it is compared with. Likely causes: a model that is not "
                    "deterministic, or a method that changes the model before training.",
                    what=what, off=off, most=most,
                )

    def _refuse_runaway(self, buffer: Buffer) -> None:
        """Raises TrainingFailed if the divergence is above the limit, or significantly below zero in five rollouts in a
        row."""
        kl, error = buffer.record["train/kl"], buffer.record.pop("kl_error", 0.0)
        self._negative = self._negative + 1 if kl < -2 * error - EXACT else 0
        if kl > self.objective.kl_limit:
            raise TrainingFailed(
                "Rollout {number}: the divergence from the start is {kl:.3g} nats, more than {limit:g}: the policy is "
                "too far from the start for its rewards to be reliable. The last checkpoint is complete. Lower "
                "optim.lr "
                "(by a factor of ten), or raise the penalty (stage.kl_coefficient).",
                number=buffer.number + 1, kl=kl, limit=self.objective.kl_limit,
            )
        if self._negative >= 5:
            raise TrainingFailed(
                "Rollout {number}: the divergence from the start is {kl:.3g} nats and was below zero in five rollouts "
                "in a row, which is impossible for samples of the policy itself: sampling and scoring disagree, and a "
                "negative penalty rewards rare tokens. The last checkpoint is complete. Continue with precision=fp32, "
                "and lower optim.lr.",
                number=buffer.number + 1, kl=kl,
            )

    # -- evaluation -----------------------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        self._scores = []

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Generates one answer to each held-out prompt, with the same seed in every evaluation."""
        rows: list[int] = batch["rows"]
        if rows and self.asked_val is not None:
            # the batches are dealt to the processes in turn, and their seeds are those of one process
            rank, processes = self._place()
            number = batch_idx * processes + rank
            drawn = self.rollouts.generate(
                [self.asked_val.ids(row) for row in rows], [self.run.seed, VALIDATION, number]
            )
            self._scores += self.score_answers(self.asked_val, rows, drawn)[0]

    def on_validation_epoch_end(self) -> None:
        """Logs val/reward; val/loss is its negative, so that the best checkpoint has the highest reward."""
        found = torch.tensor([math.fsum(self._scores), len(self._scores)], dtype=torch.float64, device=self.device)
        total, count = self.all_reduce(found).tolist()
        mean = total / max(count, 1)
        self._evaluated(-mean, {"val/reward": mean})

    # -- checkpoints ----------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Saves the rollout too, if steps of it are left."""
        super().on_save_checkpoint(checkpoint)
        left = self.buffer is not None and self.trainer.global_step // self.cuts.steps == self.buffer.number
        checkpoint["fulgurite"] |= {
            "rollout": self.buffer.get_state() if self.buffer is not None and left else None,
            "objective": self.objective.get_state(),
            "negative": self._negative,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        own = checkpoint["fulgurite"]
        self.buffer = Buffer.from_state(own["rollout"], self.device) if own["rollout"] is not None else None
        self._negative = int(own["negative"])
        self.objective.load(own["objective"])
