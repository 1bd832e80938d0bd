"""The questions of held-out examples, each with its reference answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fulgurite.config.eval_arguments import Turns
from fulgurite.data.dataset import AnyRows
from fulgurite.data.example import Conversation, Example, Message
from fulgurite.data.source import Source
from fulgurite.data.tool_calls import write_calls
from fulgurite.errors import ConfigError


@dataclass(frozen=True, slots=True)
class HeldOutQuestion:
    """A conversation that ends with a question. `expected` is the turn of the record that answers it, `reference` its
    text with its calls; both are None if the record has none. `columns` are the other columns of the record."""

    place: str
    messages: Conversation
    expected: Message | None = None
    reference: str | None = None
    columns: dict[str, Any] = field(default_factory=dict)


def read_questions(source: Source, rows: AnyRows, turns: Turns = Turns.last) -> list[HeldOutQuestion]:
    """Returns the question before the last answer of each record of the rows, in the order of the files; with
    `Turns.all` before each answer that is trained on.

    Of a pair the better answer is the reference; an answer that was judged bad is left out. Raises ConfigError for
    running text, which has no questions.
    """
    if source.reads.running_text:
        raise ConfigError(
            "stage={stage} reads running text, which has no questions to answer; leave eval.metrics, eval.reward and "
            "eval.against out.",
            stage=source.stage,
        )
    wanted = {place for i in range(len(rows)) for place in rows.places(i)}
    found: dict[str, HeldOutQuestion] = {}
    # The same records twice: as they are, for the expected turn, and as prompts, for the columns of a reward.
    for example, prompt in zip(source.examples(), source.read_as_prompts().examples(), strict=True):
        if not isinstance(example, Example) or not isinstance(prompt, Example) or example.good is False:
            continue
        place = str(example.place)
        if place not in wanted or place in found or not example.messages:
            continue
        messages, last = example.messages, example.messages[-1]
        if turns is Turns.all:
            found |= _read_earlier(place, messages, dict(prompt.columns))
        is_answered = last.role == "assistant"
        found[place] = HeldOutQuestion(
            place, Conversation.of(messages[:-1]) if is_answered else messages, last if is_answered else None,
            _get_reference(prompt.columns), dict(prompt.columns),
        )
    return list(found.values())


def check_reference(questions: Sequence[HeldOutQuestion], metric: str) -> None:
    """Raises ConfigError if no question has a reference answer, which `metric` compares with."""
    if not any(question.reference is not None for question in questions):
        raise ConfigError(
            "metrics={metric} compares with reference answers, and these records have none; use reward=... instead.",
            metric=metric,
        )


def _read_earlier(place: str, messages: Conversation, columns: dict[str, Any]) -> dict[str, HeldOutQuestion]:
    """Returns the questions before the answers of a conversation that are trained on, without the last answer."""
    found = {}
    for n, turn in enumerate(messages[:-1]):
        if turn.role == "assistant" and turn.learned and n > 0:
            reference = "\n".join(part for part in (turn.content, write_calls(turn.tool_calls)) if part)
            name = f"{place}, turn {n + 1}"
            found[name] = HeldOutQuestion(name, messages[:n], turn, reference, columns | {"answer": reference})
    return found


def _get_reference(columns: dict[str, Any]) -> str | None:
    answer = columns.get("answer")
    return None if answer is None else str(answer)
