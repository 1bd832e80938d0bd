"""`callback=eval`: the numbers of `fulgurite eval` during training, on the same few held-out examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import lightning.pytorch as pl

from fulgurite.callback.config import EvalOption
from fulgurite.callback.context import CallbackContext
from fulgurite.callback.metrics_logger import MetricsLogger
from fulgurite.callback.optimizer_step import OptimizerStepCallback
from fulgurite.data.dataset import AnyRows
from fulgurite.errors import ConfigError
from fulgurite.evaluate.generation import Answerer, Decoding, load_rewards, score_answers
from fulgurite.evaluate.held_out import measure_held_out
from fulgurite.evaluate.metrics import TextMetric, find_metrics
from fulgurite.evaluate.questions import HeldOutQuestion, read_questions
from fulgurite.evaluate.subject import draw_rows
from fulgurite.stage.base import StageModule
from fulgurite.stage.reward_functions import Reward

SEED = 0
"""The seed of the examples, as the default of `fulgurite eval`."""


def build(config: EvalOption, context: CallbackContext) -> PeriodicEvaluation:
    """Builds the callback of a run. Raises ConfigError without a validation set, and for unknown metrics."""
    if context.val is None:
        raise ConfigError(
            "callback=eval measures the validation set, and this run has none; set data.val_fraction=0.05, or leave "
            "the callback out."
        )
    metrics = find_metrics(config.metrics)
    stage = cast(StageModule, context.module)
    rewards = load_rewards(config.reward, stage.device)
    if not rewards and context.run.stage.rolls_out:
        rewards = list(cast(Any, stage).rewards)
    rows = draw_rows(context.val, config.max_examples, SEED)
    questions = read_questions(context.source, rows, config.turns) if metrics or rewards else []
    answerer = Answerer(
        stage.model, context.loaded.tokenizer, context.template, context.loaded.length, stage.inference_context
    )
    every = config.every or context.run.trainer.eval_every or context.total_steps
    decoding = Decoding(config.max_new_tokens, batch_size=config.batch_size, seed=SEED)
    return PeriodicEvaluation(answerer, decoding, rows, questions, metrics, rewards, every, context.total_steps)


class PeriodicEvaluation(OptimizerStepCallback):
    """Measures `rows`, and the answers to `questions`, every `every` steps and at the last of `total_steps`.

    It comes after the row of the step is written and before the checkpoint. A stage that learns from its own answers
    has no loss of given ones, and is measured by its answers alone.
    """

    def __init__(
        self, answerer: Answerer, decoding: Decoding, rows: AnyRows, questions: Sequence[HeldOutQuestion],
        metrics: Sequence[TextMetric], rewards: Sequence[Reward], every: int, total_steps: int,
    ) -> None:
        super().__init__()
        self._answerer, self._decoding, self._rows, self._questions = answerer, decoding, rows, questions
        self._metrics, self._rewards, self._every, self._total = metrics, rewards, every, total_steps

    def on_step(self, trainer: pl.Trainer, stage: Any, step: int) -> None:
        """Writes one row of `eval/` numbers; the time counts as a pause of training."""
        if step % self._every and step != self._total:
            return
        stage.pace.hold()
        numbers = {f"eval/{name}": value for name, value in self.measure(stage).items()}
        writer = next((callback for callback in trainer.callbacks if isinstance(callback, MetricsLogger)), None)
        if writer is not None:
            writer.write_row(trainer, stage, numbers)
        else:  # a Trainer of one's own
            stage.log_numbers(numbers)

    def measure(self, stage: StageModule) -> dict[str, float]:
        """Returns the numbers of the stage's weights of now."""
        numbers: dict[str, float] = {}
        if not stage.stage.rolls_out:
            numbers |= measure_held_out(stage, self._rows, self._answerer.tokenizer).numbers
        if self._questions:
            answers = self._answerer.answer(self._questions, self._decoding)
            numbers |= score_answers(self._questions, answers, self._metrics, self._rewards).numbers
        return numbers
