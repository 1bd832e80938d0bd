"""Refuses settings of a Lightning Trainer with which a stage would not compute what its config declares."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lightning.pytorch.callbacks import GradientAccumulationScheduler

from fulgurite.callback.checkpoint import Checkpoints
from fulgurite.config.run import RunConfig
from fulgurite.data.loader import FromPosition
from fulgurite.errors import ConfigError
from fulgurite.language.message import UserMessage, message
from fulgurite.precision.policy import Dtypes
from fulgurite.privacy.mechanism import Mechanism

if TYPE_CHECKING:
    from lightning.pytorch import Trainer



class AnyStage(Protocol):
    """The attributes of a stage that the checks need."""

    run: RunConfig
    dtypes: Dtypes
    total_steps: int
    micro_batches_per_step: int
    resumes_from: Path | None
    mechanism: Mechanism | None


OWN_AUTOCAST = ("32-true", "bf16-mixed")
"""The Trainer's precision and the run's with which the stage applies autocast itself: a Trainer without an explicit
precision has 32-true."""


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


def _find_differences(trainer: Trainer, stage: AnyStage) -> Iterator[UserMessage]:
    count, config = stage.micro_batches_per_step, stage.run.trainer
    if count and trainer.accumulate_grad_batches != count:
        yield message(
            "accumulate_grad_batches={given} is not allowed: an optimizer step of this run has {count} micro-batches; "
            "use L.Trainer(accumulate_grad_batches=experiment.data.micro_batches_per_step).",
            given=trainer.accumulate_grad_batches, count=count,
        )
    if any(isinstance(callback, GradientAccumulationScheduler) for callback in _list_callbacks(trainer)):
        yield message(
            "GradientAccumulationScheduler is not allowed: every optimizer step of this run has the same number of "
            "micro-batches; remove it."
        )
    limit, algorithm = read_clipping(stage)
    given, by = trainer.gradient_clip_val, str(getattr(trainer.gradient_clip_algorithm, "value", None) or "norm")
    if given is not None and (float(given) != limit or by != algorithm):
        own = message("{limit:g} by {algorithm}", limit=limit, algorithm=algorithm) if limit else message("off")
        yield message(
            "gradient_clip_val={given:g} by {by} is not allowed: this run's clipping is {own} "
            "(trainer.max_grad_norm={norm:g}), which the module applies itself; leave gradient_clip_val out.",
            given=given, by=by, own=own, norm=config.max_grad_norm,
        )
    if trainer.precision != stage.dtypes.lightning and (trainer.precision, stage.dtypes.lightning) != OWN_AUTOCAST:
        yield message(
            "precision={given!r} is not allowed: this run computes with precision={own}; use "
            "L.Trainer(precision={lightning!r}), or set precision= of the experiment.",
            given=trainer.precision, own=stage.dtypes.option, lightning=stage.dtypes.lightning,
        )
    if trainer.overfit_batches:
        yield message(
            "overfit_batches is not allowed: it replaces the order of the examples; set data.max_samples of the "
            "experiment."
        )
    if _is_injecting_sampler(trainer):
        yield message(
            "use_distributed_sampler=True is not allowed with a distributed strategy: each process has its share of "
            "the "
            "step already; use L.Trainer(use_distributed_sampler=False)."
        )
    if stage.resumes_from is not None and not any(
        isinstance(callback, Checkpoints) for callback in _list_callbacks(trainer)
    ):
        yield message(
            "{checkpoint} is a checkpoint of this run, and a Trainer of your own does not continue from it; use "
            "experiment.fit(), or give another run_dir.",
            checkpoint=stage.resumes_from,
        )


def _find_cuts(trainer: Trainer, stage: AnyStage) -> Iterator[UserMessage]:
    count = max(stage.micro_batches_per_step, 1)
    if stage.micro_batches_per_step and not isinstance(
        getattr(trainer.train_dataloader, "sampler", None), FromPosition
    ):
        yield message(
            "The training batches are not those of this run: call trainer.fit(experiment.module, "
            "datamodule=experiment.data), and do not replace their sampler."
        )
    if trainer.num_training_batches % count:
        yield message(
            "limit_train_batches leaves {batches} batches per epoch, which cuts an optimizer step of {count}; use a "
            "multiple of {count}, or set trainer.max_steps of the experiment.",
            batches=trainer.num_training_batches, count=count,
        )
    validates = trainer.enable_validation and trainer.num_val_batches
    if validates and isinstance(trainer.val_check_batch, int) and trainer.val_check_batch % count:
        yield message(
            "val_check_interval={interval} evaluates inside an optimizer step of {count} micro-batches; use a multiple "
            "of {count}.",
            interval=trainer.val_check_batch, count=count,
        )
    steps = trainer.estimated_stepping_batches
    if steps > stage.total_steps:
        yield message(
            "The Trainer makes {steps:,} optimizer steps, more than the {total:,} steps of the schedule; use "
            "L.Trainer(max_steps={total}), or set trainer.max_steps of the experiment.",
            steps=steps, total=stage.total_steps,
        )


def read_clipping(stage: AnyStage) -> tuple[float, str]:
    """Returns the gradient norm, or value, to clip to (0.0 for none), and which of the two. With privacy the gradient
    of each example is clipped instead."""
    config = stage.run.trainer
    return (0.0 if stage.mechanism is not None else float(config.max_grad_norm or 0.0)), str(config.clip_algorithm)


def _list_callbacks(trainer: Trainer) -> list[Any]:
    found: list[Any] = trainer.callbacks  # type: ignore[attr-defined,unused-ignore]
    return found


def _is_injecting_sampler(trainer: Trainer) -> bool:
    """Returns whether Lightning replaces the sampler; it has no public name for the argument (lightning 2.6)."""
    connector = trainer._accelerator_connector
    return bool(connector.use_distributed_sampler and connector.is_distributed)
