"""Base of all stages: a LightningModule whose subclasses define one thing, the loss of a batch.

The gradient of an optimizer step is that of the mean over the units of the step (label tokens in language modelling,
pairs or answers if those are compared), on all devices, for every division into micro-batches: each batch carries the
step's count, and Lightning's own divisions are undone. A loss that depends on its whole step gets it in
`on_step_start`. With privacy the loss is the sum over examples of each one's mean, whose gradients the mechanism
processes one by one. Shapes: B examples of a micro-batch, T tokens, N label positions, D width, V vocabulary.
"""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from transformers import PreTrainedModel

from fulgurite.config.run import RunConfig
from fulgurite.config.schema import build
from fulgurite.data.dataset import AnyRows
from fulgurite.data.loader import Ahead
from fulgurite.data.sampler import Ints, StepSampler
from fulgurite.data.source import Source
from fulgurite.data.template import Template
from fulgurite.errors import CheckpointError, ConfigError
from fulgurite.language.message import message
from fulgurite.method.modules import get_decoder_layers
from fulgurite.model.load import Loaded
from fulgurite.model.transformers_internals import enable_activation_checkpointing
from fulgurite.optim.hyperparameters import copy_hyperparameters, copy_plateau_settings, restore_hyperparameters
from fulgurite.optim.param_groups import get_base_rate
from fulgurite.precision.policy import Dtypes
from fulgurite.precision.rounding import RoundedOptimizer
from fulgurite.privacy.mechanism import Mechanism
from fulgurite.scheduler.config import Scheduler
from fulgurite.stage.config import Stage
from fulgurite.stage.freezing import freeze_temporarily
from fulgurite.stage.nonfinite import refuse_nonfinite
from fulgurite.stage.sharded import ShardableStage
from fulgurite.stage.trainer_check import read_clipping

Batch = dict[str, Any]


class StageModule(ShardableStage):
    """Base of the stages. A subclass defines `compute_total_loss`; optimizer, schedule, clipping and checks are here.

    After each optimizer step `step_record` contains its numbers: `train/loss` (mean over the step's units, all ranks),
    `train/lr`, `train/grad_norm` (before clipping), `train/clipped` (0 or 1), and `train/` each of `measures`. Under
    privacy the loss is the mean over the rows drawn, the norm is that of the noisy mean, and there are
    `privacy/rows`, `privacy/clipped` (a share), `privacy/epsilon` (so far).
    """

    measures: ClassVar[tuple[str, ...]] = ()
    """The metrics beside the loss, in training and evaluation: each is a mean of what `accumulate_metric` is given."""
    ahead: Ahead = Ahead.nothing
    """The part of a step that `on_step_start` gets."""

    def __init__(
        self, config: Stage, model: PreTrainedModel, run: RunConfig, dtypes: Dtypes, total_steps: int
    ) -> None:
        """Takes a model whose method is already applied, and calls `build_parts`."""
        super().__init__()
        self.stage: Any = config
        self.model, self.run, self.dtypes, self.total_steps = model, run, dtypes, total_steps
        if run.trainer.gradient_checkpointing or getattr(run.strategy, "activation_checkpointing", False):
            enable_activation_checkpointing(model)
        if run.trainer.compile:
            for layer in get_decoder_layers(model):  # each layer is one graph for all of them; names stay as they are
                layer.compile(dynamic=True)
        self.train()  # transformers loads models for inference, and Lightning leaves the mode as it finds it
        self.strict_loading = False  # a checkpoint holds what is trained; its keys are checked by the checkpoint code
        self.tokens_seen = 0
        self.schedule: Scheduler = run.scheduler
        """The schedule of the learning rate: the config's, or the ramp of a range test."""
        self.places: Callable[[list[int]], list[str]] = lambda rows: [str(r) for r in rows]
        self.freeze_schedules: list[Callable[[int], Iterable[nn.Parameter]]] = []
        """Each returns the parameters that are frozen in a step, counted from 0, as a function of the step alone."""
        self.observe: Callable[[Tensor], object] = lambda logits_B: None
        """Given the log-odds that a preference stage assigns to each example's label; an evaluation replaces it."""
        self._window: list[Batch] = []
        self._sums: list[Tensor] = []
        self._rest = contextlib.ExitStack()
        self._evaluation_weights = contextlib.ExitStack()
        self._val = torch.zeros(2, dtype=torch.float64)
        self._metric_sums: dict[str, Tensor] = {}
        self._made: tuple[list[dict[str, Any]], dict[str, Any]] = [], {}
        self.build_parts()

    def build_parts(self) -> None:
        """Builds what the loss needs beside the model. A subclass calls `super().build_parts()` first."""

    def setup_data(
        self, source: Source, rows: AnyRows, val: AnyRows | None, loaded: Loaded, template: Template
    ) -> None:
        """Takes the training data, before training begins."""
        self.places = lambda numbers: [place for n in numbers for place in rows.places(n)]

    def build_sampler(self, lengths: Ints, processes: int, rank: int) -> StepSampler:
        """Builds the sampler, which decides the examples of each step."""
        t = self.run.trainer
        return StepSampler(lengths, t.global_batch_size, t.micro_batch_size, processes, rank, self.run.seed,
            self.run.data.shuffle)

    @property
    def validation_batch_size(self) -> int:
        """The number of validation examples in one batch."""
        return int(self.run.trainer.micro_batch_size)

    @abstractmethod
    def compute_total_loss(self, batch: Batch) -> Tensor:
        """Returns the sum of the loss over the micro-batch's units; B is at least 1."""

    def loss_units(self, batch: Batch) -> int:
        """Returns the number of units of the micro-batch, over which the mean is computed."""
        return int(batch["units"] if "units" in batch else (batch["targets"] >= 0).sum())

    def on_step_start(self, batch: Batch) -> None:
        """Called before the first micro-batch of a step and of an evaluation, on every process, if `ahead` is set."""

    def on_step_end(self, numbers: dict[str, float]) -> None:
        """Called with the means of `measures` after each optimizer step, on every process with the same."""

    def get_state(self) -> dict[str, float]:
        """Returns numbers that a resumed run needs."""
        return {}

    def restore(self, state: dict[str, float]) -> None:
        """Restores what `get_state` returned."""

    def accumulate_metric(self, name: str, total: Tensor | float, count: Tensor | float) -> None:
        """Adds a sum and its number of terms to the metric `name`."""
        pair = torch.stack([self._as_number(x) for x in (total, count)]).detach()
        self._metric_sums[name] = self._metric_sums[name] + pair if name in self._metric_sums else pair

    def _as_number(self, value: Tensor | float) -> Tensor:
        """Returns a double on the device; a Python number is filled in there, because a copy waits for the device."""
        if isinstance(value, Tensor):
            return value.to(torch.float64)
        return torch.full((), value, dtype=torch.float64, device=self.device)

    def reduce_metrics(self) -> dict[str, float]:
        """Returns the means of the metrics over all processes and resets them; a metric without terms is left out."""
        if not self.measures:
            return {}
        none = torch.zeros(2, dtype=torch.float64, device=self.device)
        sums = self.all_reduce(torch.stack([self._metric_sums.get(name, none) for name in self.measures])).tolist()
        self._metric_sums = {}
        return {name: total / count for name, (total, count) in zip(self.measures, sums, strict=True) if count}

    def compute_row_losses(self, batch: Batch) -> Tensor:
        """Returns the loss [B] of each example, which depends on no other example; for privacy. B is at least 1."""
        raise NotImplementedError(f"{type(self).__name__} has no loss of a single row")

    def set_mechanism(self, mechanism: Mechanism | None) -> None:
        """Trains through `mechanism`, after a check that this model's examples have separate gradients."""
        self.mechanism = mechanism
        if mechanism is not None and self.dtypes.option == "fp16":  # chosen by precision=auto
            raise ConfigError(
                "privacy=dp_sgd clips unscaled gradients, and fp16, the only 16-bit type of this GPU, scales them; use "
                "precision=fp32."
            )
        if mechanism is not None:
            with self.dtypes.autocast(self.device.type):
                vocabulary = self.model.get_input_embeddings().num_embeddings
                mechanism.prove(self.compute_row_losses, self.dtypes.compute, vocabulary)

    # -- one micro-batch ------------------------------------------------------------------------------------------

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Returns the micro-batch's share of the step's mean loss, scaled to undo Lightning's averages."""
        if not self._window:
            self.step_tokens_read = 0
        self._window.append(batch)
        self._rest.enter_context(freeze_temporarily(self._frozen_parameters()))
        try:
            with self.precision_context():
                if "ahead" in batch:
                    self.on_step_start(batch)
                loss = self._loss(batch)
            self._sums.append(loss.detach())  # looked at once a step: a look waits for the device
        except BaseException:
            self._rest.close()
            raise
        self.step_tokens_read += int(batch["tokens"]) if batch["input_ids"].shape[0] else 0
        if self.mechanism is not None:
            whole: Tensor = loss * self.trainer.accumulate_grad_batches  # the mechanism divides, by the expected rows
            return whole
        # Lightning divides by the window's length, DDP by the number of processes: both are undone.
        parts = self.trainer.accumulate_grad_batches * self.trainer.world_size
        scaled: Tensor = loss * (parts / max(batch["step_targets"], 1))
        return scaled

    def on_after_backward(self) -> None:
        """Unfreezes parameters, because checkpoints and optimizers read `requires_grad`; clips gradients with
        privacy."""
        self._rest.close()
        if self.mechanism is not None:
            self.mechanism.absorb(self._window[-1]["input_ids"].shape[0])

    def _loss(self, batch: Batch) -> Tensor:
        if "filler" in batch:
            return self.compute_idle(batch, self.compute_total_loss)
        if batch["input_ids"].shape[0] == 0:
            return self.sum_nothing()
        return self.compute_total_loss(batch) if self.mechanism is None else self.compute_row_losses(batch).sum()

    def _frozen_parameters(self) -> list[nn.Parameter]:
        """Returns the parameters that the method's `freeze_schedules` and the optimizer freeze in this step."""
        asked = [*self.freeze_schedules, *(o.resting for o in self.trainer.optimizers if hasattr(o, "resting"))]
        return [parameter for resting in asked for parameter in resting(self.trainer.global_step)]

    # -- one optimizer step ---------------------------------------------------------------------------------------

    def configure_gradient_clipping(
        self, optimizer: torch.optim.Optimizer, gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Records the norm before clipping, stops before the step on a loss or norm that is not finite, then clips.

        Clipping by norm uses the recorded norm: Lightning's own `clip_gradients` would compute it a second time.
        """
        refuse_nonfinite(self, message("loss"), torch.stack(self._sums), self._window)
        private = {} if self.mechanism is None else self.mechanism.finish(self.trainer.global_step)
        parameters = [p for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
        gradients = [p.grad for p in parameters]
        total = torch.nn.utils.get_total_norm(gradients)
        norm = float(total)
        if self.dtypes.option != "fp16":  # in fp16 the loss scaler skips such a step
            refuse_nonfinite(self, message("gradient norm"), torch.tensor(norm), self._window)
        limit, algorithm = read_clipping(self)  # a Trainer of one's own has none, or the same
        clipped = False
        if limit and algorithm == "value":
            clipped = any(bool((g.abs() > limit).any()) for g in gradients)
            self.clip_gradients(optimizer, gradient_clip_val=limit, gradient_clip_algorithm=algorithm)
        elif limit:
            clipped = norm > limit
            torch.nn.utils.clip_grads_with_norm_(parameters, limit, total)
        self._record(norm, clipped or private.get("privacy/clipped", 0.0) > 0, get_base_rate(optimizer), private)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Makes Lightning's step; if weights are bf16, records the share of weights that it did not change."""
        super().optimizer_step(*args, **kwargs)
        optimizer = self.trainer.optimizers[0]
        if isinstance(optimizer, RoundedOptimizer):
            self.step_record["train/unchanged"] = optimizer.unchanged
        self.log_step()

    def _record(self, norm: float, clipped: bool, rate: float, private: dict[str, float]) -> None:
        targets = self._window[0]["step_targets"]
        sums = torch.stack([s.double() for s in self._sums]).sum()
        count = int(private["privacy/rows"]) if private else targets
        loss = self.all_reduce(sums) / max(count, 1)
        self.tokens_seen += int(self._window[0]["step_labels"]) if "step_labels" in self._window[0] else targets
        numbers = self.reduce_metrics()
        self.step_record = {
            "train/loss": float(loss), "train/lr": float(rate), "train/grad_norm": norm,
            "train/clipped": float(clipped), **private,
            **{f"train/{name}": value for name, value in numbers.items()},
        }
        self.on_step_end(numbers)
        if count == 0 and private:  # a step without examples has noise, and no loss
            del self.step_record["train/loss"]
        if self.mechanism is not None and self._logged(self.trainer.global_step + 1):
            self.step_record["privacy/epsilon"] = self.mechanism.epsilon()
        self._window, self._sums = [], []

    def _logged(self, step: int) -> bool:
        return step % self.run.trainer.log_every == 0 or step == self.total_steps

    # -- evaluation -----------------------------------------------------------------------------------------------

    def on_validation_start(self) -> None:
        """Switches to the evaluated weights, also for the callbacks' samples, which come before `on_validation_end`."""
        super().on_validation_start()
        self._evaluation_weights.enter_context(self.evaluation_weights())

    def on_validation_end(self) -> None:
        self.free_gathered()
        self._evaluation_weights.close()

    @contextlib.contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        """Uses the evaluated weights inside the block, if the optimizer trains others (it then has `averaged`)."""
        with contextlib.ExitStack() as stack:
            for optimizer in self.trainer.optimizers if self._trainer is not None else []:
                if hasattr(optimizer, "averaged"):
                    stack.enter_context(optimizer.averaged())
            yield

    def on_validation_epoch_start(self) -> None:
        self._val = torch.zeros(2, dtype=torch.float64, device=self.device)
        self._metric_sums = {}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Adds the sum of the loss and the count of its units; no logits are kept."""
        with self.precision_context():
            if "ahead" in batch:
                self.on_step_start(batch)
            if "filler" in batch:
                self.compute_idle(batch, self.compute_total_loss)
            if "filler" in batch or not batch["input_ids"].shape[0]:
                return
            loss = self.compute_total_loss(batch)
            self._val += torch.stack([loss.double(), self._as_number(self.loss_units(batch))])

    def on_validation_epoch_end(self) -> None:
        total, count = self.all_reduce(self._val).tolist()
        self._evaluated(total / max(count, 1), {f"val/{name}": value for name, value in self.reduce_metrics().items()})

    def _evaluated(self, loss: float, more: dict[str, float]) -> None:
        self.log_numbers({"val/loss": loss, **more})
        training = self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking
        scheduler = self.lr_schedulers() if training else None
        if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            scheduler.step(loss)

    # -- optimizer and schedule -----------------------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        """Builds the optimizer, and the schedule by optimizer step (by evaluation for a plateau)."""
        optimizer = build(self.run.optim, self)
        if self.dtypes.rounding is not None:
            optimizer = RoundedOptimizer(optimizer, self.dtypes.rounding, self.run.seed)
        if self.schedule.monitors:
            plateau = build(self.schedule, optimizer)
            self._made = copy_hyperparameters(optimizer), copy_plateau_settings(plateau)
            # Lightning counts a plateau's interval in batches or epochs; ours counts evaluations, see
            # on_validation_epoch_end.
            watch = {"scheduler": plateau, "interval": "epoch", "monitor": "val/loss", "strict": False}
            return {"optimizer": optimizer, "lr_scheduler": watch}
        factor = build(self.schedule, total=self.total_steps, lr=self.run.optim.lr)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        self._made = copy_hyperparameters(optimizer), {}
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step", "frequency": 1}}

    def on_train_start(self) -> None:
        """Restores the config's hyperparameters, which a checkpoint may have replaced by others."""
        super().on_train_start()
        groups, plateau = self._made
        restore_hyperparameters(self.trainer.optimizers[0], self.lr_schedulers(), groups, plateau)

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        if not isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            scheduler.step()

    # -- checkpoints ----------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Saves the number of tokens, and averaged weights instead of the trained ones (in the optimizer's state).

        The checkpoint callback, which Lightning calls first, chooses the weights that are saved.
        """
        super().on_save_checkpoint(checkpoint)
        checkpoint["fulgurite"] = {"tokens_seen": self.tokens_seen, **self.get_state()}
        if self._window:
            checkpoint["fulgurite"]["inside_step"] = len(self._window)
        if self.mechanism is not None:
            checkpoint["fulgurite"]["privacy"] = self.mechanism.get_state()
        averages = {id(p): x for o in self.trainer.optimizers if hasattr(o, "averages") for p, x in o.averages()}
        for name, parameter in self.named_parameters():
            if name in checkpoint["state_dict"] and id(parameter) in averages:
                checkpoint["state_dict"][name] = averages[id(parameter)]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        kept = dict(checkpoint.get("fulgurite", {}))
        self.tokens_seen = int(kept.pop("tokens_seen", 0))
        if (inside := kept.pop("inside_step", 0)) > 0:
            raise CheckpointError(
                "The checkpoint was saved after {inside} of the {count} micro-batches of an optimizer step, and does "
                "not "
                "have their gradients; continue from one that was saved between two steps "
                "(ModelCheckpoint(every_n_train_steps=...)).",
                inside=inside, count=self.micro_batches_per_step,
            )
        account = kept.pop("privacy", None)
        self.restore(kept)
        if self.mechanism is not None:
            if account is None:
                raise CheckpointError(
                    "The checkpoint was trained without privacy, which cannot be added later; start a new run."
                )
            self.mechanism.load(account)

    @contextlib.contextmanager
    def inference_context(self) -> Iterator[None]:
        """Sets the run's compute type and the evaluated weights outside Lightning's steps (samples), without
        gradients."""
        with torch.no_grad(), self.evaluation_weights(), self.dtypes.autocast(self.device.type):
            yield
