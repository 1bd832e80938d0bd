"""What a Lightning Trainer may not change: settings under which a stage would compute something else than its config
says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lightning.pytorch.callbacks import GradientAccumulationScheduler

from fulgurite.callback.checkpoint import Checkpoints
from fulgurite.config.run import RunConfig
from fulgurite.data.loader import FromPosition
from fulgurite.errors import ConfigError
from fulgurite.precision.policy import Dtypes
from fulgurite.privacy.mechanism import Mechanism

if TYPE_CHECKING:
    from lightning.pytorch import Trainer



class AnyStage(Protocol):
    """What is asked of a stage."""

    run: RunConfig
    dtypes: Dtypes
    total_steps: int
    micro_batches_per_step: int
    resumes_from: Path | None
    mechanism: Mechanism | None


OWN_AUTOCAST = ("32-true", "bf16-mixed")
"""The Trainer's precision, and the run's, in which the stage casts for itself: a Trainer that is given no precision
has 32-true."""


def refuse_other_mathematics(trainer: Trainer, stage: AnyStage) -> None:
    """Raises ConfigError, one sentence, if the Trainer's arguments differ from what the stage computes with. Before
    data is loaded."""
    for sentence in _find_differences(trainer, stage):
        raise ConfigError(sentence)


def refuse_cut_steps(trainer: Trainer, stage: AnyStage) -> None:
    """Raises ConfigError, one sentence, if the batches are not those of the run, or an optimizer step would be cut.
    Before step 1."""
    for sentence in _find_cuts(trainer, stage):
        raise ConfigError(sentence)


def _find_differences(trainer: Trainer, stage: AnyStage) -> Iterator[str]:
    count, config = stage.micro_batches_per_step, stage.run.trainer
    if count and trainer.accumulate_grad_batches != count:
        yield (
            f"accumulate_grad_batches={trainer.accumulate_grad_batches} is not allowed: an optimizer step of this run "
            f"has {count} "
            "micro-batches; give L.Trainer(accumulate_grad_batches=experiment.data.micro_batches_per_step)."
        )
    if any(isinstance(callback, GradientAccumulationScheduler) for callback in _list_callbacks(trainer)):
        yield (
            "GradientAccumulationScheduler is not allowed: every optimizer step of this run has the same number of "
            "micro-batches."
        )
    limit, algorithm = read_clipping(stage)
    given, by = trainer.gradient_clip_val, str(getattr(trainer.gradient_clip_algorithm, "value", None) or "norm")
    if given is not None and (float(given) != limit or by != algorithm):
        own = f"{limit:g} by {algorithm}" if limit else "off"
        yield (
            f"gradient_clip_val={given:g} by {by} is not allowed: this run's clipping is {own} (trainer.max_grad_norm="
            f"{config.max_grad_norm:g}), which the module applies itself; leave gradient_clip_val out."
        )
    if trainer.precision != stage.dtypes.lightning and (trainer.precision, stage.dtypes.lightning) != OWN_AUTOCAST:
        yield (
            f"precision={trainer.precision!r} is not allowed: this run computes with precision={stage.dtypes.option}; "
            f"give "
            f"L.Trainer(precision={stage.dtypes.lightning!r}), or set precision= of the experiment."
        )
    if trainer.overfit_batches:
        yield (
            "overfit_batches is not allowed: it replaces the order of the examples; set data.max_samples of the "
            "experiment."
        )
    if _is_injecting_sampler(trainer):
        yield (
            "use_distributed_sampler=True is not allowed with a distributed strategy: each process has its share of "
            "the step already; "
            "give L.Trainer(use_distributed_sampler=False)."
        )
    if stage.resumes_from is not None and not any(
        isinstance(callback, Checkpoints) for callback in _list_callbacks(trainer)
    ):
        yield (
            f"{stage.resumes_from} is a checkpoint of this run, which a Trainer of your own does not continue; use "
            f"experiment.fit(), "
            "or give another run_dir."
        )


def _find_cuts(trainer: Trainer, stage: AnyStage) -> Iterator[str]:
    count = max(stage.micro_batches_per_step, 1)
    if stage.micro_batches_per_step and not isinstance(
        getattr(trainer.train_dataloader, "sampler", None), FromPosition
    ):
        yield (
            "The training batches are not those of this run: call trainer.fit(experiment.module, "
            "datamodule=experiment.data), and let "
            "nothing replace their sampler."
        )
    if trainer.num_training_batches % count:
        yield (
            f"limit_train_batches leaves {trainer.num_training_batches} batches an epoch, which cuts an optimizer "
            f"step of {count}; give "
            f"a multiple of {count}, or set trainer.max_steps of the experiment."
        )
    validates = trainer.enable_validation and trainer.num_val_batches
    if validates and isinstance(trainer.val_check_batch, int) and trainer.val_check_batch % count:
        yield (
            f"val_check_interval={trainer.val_check_batch} evaluates inside an optimizer step of {count} "
            f"micro-batches; give a multiple "
            f"of {count}."
        )
    steps = trainer.estimated_stepping_batches
    if steps > stage.total_steps:
        yield (
            f"The Trainer takes {steps:,} optimizer steps, more than the {stage.total_steps:,} that the schedule was "
            f"made for; give "
            f"L.Trainer(max_steps={stage.total_steps}), or set trainer.max_steps of the experiment."
        )


def read_clipping(stage: AnyStage) -> tuple[float, str]:
    """The gradient norm, or value, to clip to, 0.0 for none, and by which of them. Under privacy each row's gradient
    is clipped."""
    config = stage.run.trainer
    return (0.0 if stage.mechanism is not None else float(config.max_grad_norm or 0.0)), str(config.clip_algorithm)


def _list_callbacks(trainer: Trainer) -> list[Any]:
    found: list[Any] = trainer.callbacks  # type: ignore[attr-defined,unused-ignore]
    return found


def _is_injecting_sampler(trainer: Trainer) -> bool:
    """Whether Lightning replaces the sampler; it has no public name for the argument (lightning 2.6)."""
    connector = trainer._accelerator_connector
    return bool(connector.use_distributed_sampler and connector.is_distributed)
