"""Generates the answers to held-out questions in batches, and scores them by metrics and rewards."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from fulgurite.data.example import to_dicts
from fulgurite.data.template import Template
from fulgurite.evaluate.metrics import TextMetric, score_metrics
from fulgurite.evaluate.questions import HeldOutQuestion, check_reference
from fulgurite.model.generate import Answer, continue_prompts
from fulgurite.run.reward_model import load_reward_model
from fulgurite.stage.reward_functions import (
    Answered,
    ModelReward,
    Reward,
    check_columns,
    compute_rewards,
    resolve,
    shorten_names,
)


@dataclass(frozen=True, slots=True)
class Decoding:
    """How answers are generated: as the parameters of the same names of `fulgurite eval`."""

    max_new_tokens: int
    temperature: float = 0.0
    batch_size: int = 8
    seed: int = 0


@dataclass(slots=True)
class Answerer:
    """A model that answers, with the template, the stop tokens and the compute type of its run."""

    model: Any
    tokenizer: Any
    template: Template
    length: int
    context: Callable[[], AbstractContextManager[Any]]

    def answer(self, questions: Sequence[HeldOutQuestion], decoding: Decoding) -> list[Answer]:
        """Returns an answer to each question, in their order. Questions of similar length are answered together.

        A question that is as long as the model's input has an empty answer that did not stop.
        """
        prompts = [self.template.encode_prompt(question.messages) for question in questions]
        # A batch is padded to its longest prompt: sorted, little of it is padding.
        order = sorted(range(len(prompts)), key=lambda n: len(prompts[n]))
        found: dict[int, Answer] = {}
        for start in range(0, len(order), decoding.batch_size):
            part = order[start : start + decoding.batch_size]
            with self.context():
                answers = continue_prompts(
                    self.model, self.tokenizer, [prompts[n] for n in part], self.template.stop_ids,
                    max_new_tokens=decoding.max_new_tokens, temperature=decoding.temperature,
                    # Each batch has a seed of its own, or equal prompts in two batches would get equal answers.
                    seed=decoding.seed + start, length=self.length,
                )
            found |= dict(zip(part, answers, strict=True))
        return [self._read_calls(found[n], question) for n, question in enumerate(questions)]

    def _read_calls(self, answer: Answer, question: HeldOutQuestion) -> Answer:
        """Adds the calls of the functions that the question offers."""
        if not question.messages.tools:
            return answer
        return replace(answer, calls=self.template.answer(answer.raw, question.messages.tools).tool_calls)


@dataclass(frozen=True, slots=True)
class Scored:
    """Answers and their numbers: the totals by name, and those of each question."""

    answers: list[Answer]
    numbers: dict[str, float]
    each: list[dict[str, float]] = field(default_factory=list)


def score_answers(
    questions: Sequence[HeldOutQuestion], answers: Sequence[Answer], metrics: Sequence[TextMetric],
    rewards: Sequence[Reward],
) -> Scored:
    """Scores the answers: each metric, the mean of each reward as `reward/NAME`, the mean length in tokens and the
    share that the limit cut. Raises ConfigError or RequestError if a metric or a reward cannot be computed."""
    for metric in metrics:
        if metric.compares:
            check_reference(questions, metric.name)
    numbers, each = score_metrics(metrics, questions, answers)
    if rewards:
        answered = build_answered(questions, answers)
        check_columns(rewards, [name for name in answered.columns if name not in ("messages", "tools")])
        of_reward = compute_rewards(rewards, [1.0] * len(rewards), answered, in_training=False)[1]
        shown = shorten_names(of_reward)
        for name, values in of_reward.items():
            numbers[f"reward/{shown[name]}"] = statistics.fmean(values)
            for row, value in zip(each, values, strict=True):
                row[f"reward/{shown[name]}"] = value
    numbers["answer_length"] = statistics.fmean(answer.tokens for answer in answers)
    numbers["cut"] = statistics.fmean(float(not answer.stopped) for answer in answers)
    return Scored(list(answers), numbers, each)


def build_answered(questions: Sequence[HeldOutQuestion], answers: Sequence[Answer]) -> Answered:
    """Returns the answers as rewards take them."""
    names = sorted({name for question in questions for name in question.columns})
    columns: dict[str, list[Any]] = {name: [q.columns.get(name) for q in questions] for name in names}
    columns["messages"] = [to_dicts(question.messages) for question in questions]
    if any(question.messages.tools for question in questions):
        columns["tools"] = [list(question.messages.tools) for question in questions]
    return Answered(
        [question.messages[-1].content for question in questions], [answer.text for answer in answers],
        [answer.tokens for answer in answers], [answer.stopped for answer in answers],
        [question.place for question in questions], columns,
    )


def load_rewards(words: Sequence[str], device: torch.device) -> list[Reward]:
    """Returns the rewards that the words name, as `stage.reward` does, with their models loaded. Raises ConfigError."""
    found = [resolve(word) for word in words]
    for reward in found:
        if isinstance(reward, ModelReward):
            reward.score = load_reward_model(Path(reward.name).expanduser(), device)
    return found
