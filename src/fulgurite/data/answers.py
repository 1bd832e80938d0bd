"""Plans the rows of a conversation: the texts that are tokenized, and the answers after them that are learned.

The text before an answer is the same in training as at inference. Most templates never change a turn once it is
rendered: one row then has the whole conversation. Some render earlier turns differently once later ones follow (Qwen 3
and gpt-oss leave out earlier reasoning): each answer then has a row of its own. Some open the answer in the generation
prompt (`<think>`): the row is that prompt, the rest of the turn, and its end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from fulgurite.data.config import Mask
from fulgurite.data.example import Conversation, Message
from fulgurite.errors import DataError

REASONING_LEFT_OUT = 128
"""Flag of an example: the reasoning of its answer does not fit after the generation prompt."""
TAG = r"(<\|?[\w:]*think\w*\|?>|\[THINK\])"
THOUGHT, THOUGHT_HERE = re.compile(TAG + r"\s*\Z", re.IGNORECASE), re.compile(TAG, re.IGNORECASE)
"""A tag that opens reasoning, at the end of a text and at its beginning."""
TAIL = 64
"""Characters at the end of a prompt in which such a tag is searched."""
PROBE = (Message("user", "Hello"), Message("assistant", "Yes"))


class Renderer(Protocol):
    """Renders conversations: a template."""

    name: str

    def text(self, messages: Sequence[Message], prompt: bool) -> str:
        """Renders the conversation as text; if `prompt` is true, with the opening of the answer. Raises DataError."""

    @property
    def opening(self) -> str:
        """The text that the generation prompt adds to the head of an answer's turn."""

    @property
    def head(self) -> str:
        """The head of an answer's turn: the generation prompt without `opening`."""


@dataclass(frozen=True, slots=True)
class RowPlan:
    """A row: each text is the beginning of the next, and the last one is the whole row. After `texts[k]` follows an
    answer, which is learned if `learned[k]` is true; other texts mark the end of a learned answer."""

    texts: list[str]
    learned: list[bool]
    mask: Mask
    flags: int = 0


def plan_rows(template: Renderer, messages: Sequence[Message], mask: Mask) -> list[RowPlan]:
    """Returns the rows of a conversation: one, or one per learned answer if the template changes earlier turns.

    Raises DataError.
    """
    conversation = Conversation.of(messages)
    answers = [i for i, message in enumerate(conversation) if message.role == "assistant"]
    # The other masks need one row, which ends with the last answer.
    if mask is not Mask.answers:
        return [_plan_last_answer(template, conversation, answers, mask)]
    whole = template.text(conversation, False)
    # Try one row first: possible if every prompt is the beginning of the whole text.
    texts, learned = _split_at_answers(template, conversation, answers, whole)
    if texts is not None:
        _refuse_left_out(template, conversation, whole, [i for i in answers if conversation[i].learned])
        # Reasoning of earlier turns is left out by many templates: reported, not refused.
        lost = any(_is_lost(template, conversation, i, whole) for i in answers if conversation[i].learned)
        return [RowPlan([*texts, whole], learned, mask, REASONING_LEFT_OUT * lost)]
    # Otherwise each learned answer becomes a row of its own, with the conversation up to it.
    rows = []
    for i in answers:
        if conversation[i].learned:
            rows.append(_plan_one_answer(template, conversation[: i + 1], mask))
            _refuse_left_out(template, conversation[: i + 1], rows[-1].texts[-1])
    return rows


def _split_at_answers(
    template: Renderer, conversation: Conversation, answers: list[int], whole: str
) -> tuple[list[str] | None, list[bool]]:
    """Returns the texts before and after learned answers if each is the beginning of the whole; else None."""
    texts: list[str] = []
    learned: list[bool] = []
    for place, i in enumerate(answers):
        if not conversation[i].learned:
            continue
        following = answers[place + 1] if place + 1 < len(answers) else None
        prompt, said = template.text(conversation[:i], True), whole
        # Rendered up to this answer: what follows it in the whole text is the next turn.
        if i + 1 < len(conversation):
            said = template.text(conversation[: i + 1], False)
        if not (whole.startswith(prompt) and said.startswith(prompt) and whole.startswith(said)):
            return None, []
        texts.append(prompt)
        learned.append(True)
        # The next answer is masked: its text must not count as a part of this one.
        if following is not None and not conversation[following].learned:
            texts.append(said)
            learned.append(False)
    return texts, learned


def _plan_last_answer(template: Renderer, conversation: Conversation, answers: list[int], mask: Mask) -> RowPlan:
    """Returns the row of the last answer; for `mask=all` everything in it is learned except masked answers."""
    row = _plan_one_answer(template, conversation[: answers[-1] + 1], mask)
    _refuse_left_out(template, conversation, row.texts[-1])
    # For mask=all each masked answer needs two texts: one ends before it, the other after it.
    texts, learned, whole = [], [], row.texts[-1]
    for i in answers[:-1] if mask is Mask.all else []:
        # A greeting has no mask of its own: all of its text is learned.
        asked = any(message.role == "user" for message in conversation[:i])
        if not conversation[i].learned and asked:
            prompt, said = template.text(conversation[:i], True), template.text(conversation[: i + 1], False)
            if not (whole.startswith(prompt) and whole.startswith(said)):
                raise DataError(
                    "the chat template {name} renders earlier turns differently once later ones follow, so a masked "
                    "answer cannot be located for data.mask=all; set data.mask=answers.",
                    name=template.name,
                )
            texts += [prompt, said]
            learned += [False, True]
    return replace(row, texts=[*texts, *row.texts], learned=[*learned, *row.learned])


def _plan_one_answer(template: Renderer, conversation: Conversation, mask: Mask) -> RowPlan:
    """Returns the row of the last answer: the prompt as at inference, and the text that the model should generate."""
    prompt, whole = template.text(conversation[:-1], True), template.text(conversation, False)
    rest, flags = _split_produced(template, conversation, prompt, whole)
    if _is_lost(template, conversation, len(conversation) - 1, rest):
        flags |= REASONING_LEFT_OUT
    return RowPlan([prompt, prompt + rest], [conversation[-1].learned], mask, flags)


def _split_produced(template: Renderer, conversation: Conversation, prompt: str, whole: str) -> tuple[str, int]:
    """Returns the text after the generation prompt: the rest of the turn as the template renders it, or else the
    content and the end of the turn."""
    if whole.startswith(prompt):
        return whole[len(prompt) :], 0
    answer, tag = conversation[-1], _find_opened_tag(prompt)
    # The prompt may differ from the whole text only in the blanks after an opened tag of reasoning.
    if tag and whole.startswith(prompt.rstrip()):
        return whole[len(prompt.rstrip()) :].lstrip(), 0
    if answer.reasoning and not tag:
        without = template.text(
            Conversation((*conversation.messages[:-1], replace(answer, reasoning="")), conversation.tools), False
        )
        # The prompt has opened and closed the reasoning already, so there is no place for it.
        if without.startswith(prompt):
            return without[len(prompt) :], REASONING_LEFT_OUT
    turn = _find_written_turn(template, conversation, prompt, whole)
    if not turn and answer.content.strip() and not answer.tool_calls:
        # The template changes the prompt: keep the content and what follows it, the end of the turn.
        turn = "".join(whole.rpartition(answer.content.strip())[1:])
    if not turn:
        raise DataError(
            "the chat template {name} opens an answer differently at inference and in training; set another "
            "data.template.",
            name=template.name,
        )
    return (_close_reasoning(tag, answer, turn) if tag else turn), 0


def _find_written_turn(template: Renderer, conversation: Conversation, prompt: str, whole: str) -> str:
    """Returns the last turn without its head, if the template renders the head or the text before it differently from
    the prompt."""
    opening, head = template.opening, template.head
    before = prompt.removesuffix(opening)
    if opening and len(before) < len(prompt) and whole.startswith(before):
        return whole[len(before) :]
    if not head or not prompt.endswith(head + opening):
        return ""
    other = Conversation((*conversation.messages[:-1], PROBE[1]), conversation.tools)
    # With another answer the rendering is equal up to and including the head of the last turn.
    shared = find_shared_beginning(whole, template.text(other, False))
    return whole[shared.rfind(head) + len(head) :] if head in shared else ""


def _close_reasoning(tag: str, answer: Message, turn: str) -> str:
    """Adds the reasoning and its closing tag to a turn whose prompt has opened the reasoning."""
    close = _make_closing_tag(tag)
    if close in turn:
        # The prompt has the opening tag already, so the turn must not open it again.
        return turn.lstrip().removeprefix(tag).lstrip()
    thought = answer.reasoning
    # The template may leave out reasoning that the record has inside the content.
    if not thought and close in answer.content:
        thought = answer.content.partition(close)[0].strip().removeprefix(tag)
    return f"{thought.strip()}\n{close}\n\n{turn.lstrip()}"


def _find_opened_tag(prompt: str) -> str:
    """Returns the tag of reasoning at the end of a generation prompt; empty if there is none."""
    found = THOUGHT.search(prompt[-TAIL:])
    return found[1] if found else ""


def _make_closing_tag(tag: str) -> str:
    # <|START_THINKING|> ends with <|END_THINKING|>, <think> with </think>, [THINK] with [/THINK].
    return tag.replace("START", "END") if "START" in tag else f"{tag[0]}/{tag[1:]}"


def find_shared_beginning(one: str, other: str) -> str:
    """Returns the longest common beginning of two texts."""
    end = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:end]


def find_head(template: Renderer) -> tuple[str, str]:
    """Returns the head of an answer's turn, and the text that the generation prompt adds to it, such as `<think>` and a
    line break."""
    question, prompt, whole = (
        template.text(PROBE[:1], False),
        template.text(PROBE[:1], True),
        template.text(PROBE, False),
    )
    # The prompt and the whole text are equal up to the head of the answer; the rest of the prompt is its opening.
    end = len(find_shared_beginning(prompt, whole))
    turn = whole[end:].lstrip()
    # The whole text must continue with the answer or its reasoning; otherwise the texts differ for another reason.
    fits = turn.startswith(PROBE[1].content) or THOUGHT_HERE.match(turn)
    opening = prompt[end:] if fits and PROBE[0].content not in prompt[end:] else ""
    return prompt[len(question) :].removesuffix(opening) if prompt.startswith(question) else "", opening


def _is_lost(template: Renderer, conversation: Conversation, i: int, text: str) -> bool:
    """Returns whether the reasoning of answer i, or its words beside calls, are missing in the text."""
    answer = conversation[i]
    parts = {"reasoning": answer.reasoning} | ({"content": answer.content} if answer.tool_calls else {})
    return any(
        value.strip() and value.strip() not in text and not _is_read(template, conversation, i, **{part: f"{value} 1"})
        for part, value in parts.items()
    )


def _refuse_left_out(template: Renderer, conversation: Conversation, whole: str, answers: Sequence[int] = ()) -> None:
    """Raises DataError if the content of a message is missing in the text. Of the answers it checks the given ones, or
    else the last.

    A template may escape the content or change its form. Therefore a content that is not found is changed: if that
    changes the text, the template has used it.
    """
    answers = answers or [len(conversation) - 1]
    for i, message in enumerate(conversation):
        said = message.content.strip()
        if not said or said in whole or (message.role == "assistant" and (i not in answers or message.tool_calls)):
            continue
        # Change the first and the last character: if either leaves the text unchanged, the content is not used.
        first, last = ("1" if said[n] == "0" else "0" for n in (0, -1))
        if not all(
            _is_read(template, conversation, i, content=other) for other in (first + said[1:], said[:-1] + last)
        ):
            raise DataError(
                "the chat template {name} leaves out the content of a {role} message; set another data.template.",
                name=template.name, role=message.role,
            )
    for i, message in enumerate(conversation):
        # Some templates render only the first call: rename each other one, and see whether the text changes.
        for n in range(1, len(message.tool_calls)):
            call = {
                **message.tool_calls[n],
                "function": {**message.tool_calls[n]["function"], "name": "another_function"},
            }
            if not _is_read(
                template, conversation, i, tool_calls=(*message.tool_calls[:n], call, *message.tool_calls[n + 1 :])
            ):
                raise DataError(
                    "the chat template {name} renders only {count} of the calls of one answer; set another "
                    "data.template.",
                    name=template.name, count=n,
                )


def _is_read(template: Renderer, conversation: Conversation, i: int, **other_parts: Any) -> bool:
    """Returns whether the text changes if message i has these other parts."""
    messages = list(conversation)
    messages[i] = replace(messages[i], **other_parts)
    other = Conversation(tuple(messages), conversation.tools)
    try:
        return template.text(other, False) != template.text(conversation, False)
    except DataError:
        # A template that refuses the changed message has read it.
        return True
