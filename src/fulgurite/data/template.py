"""Conversations as tokens, in training and at inference the same, and which of them are learned.

The tokens before each learned answer are those that `encode_prompt` gives for the conversation so far: where tokens of the
prompt and of the answer would merge, the prompt is tokenised on its own, as it is when the model is asked.
transformers marks answers itself where a template has `{% generation %}`; hardly any template has it, and the mark does not
cover the end of the turn, so the answers are found here by comparing renderings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from fulgurite.data.config import Mask
from fulgurite.data.dialect import Dialect
from fulgurite.data.records import Message
from fulgurite.data.time_box import time_box
from fulgurite.errors import ConfigError, DataError, did_you_mean

FOLDER = Path(__file__).parent / "templates"
BUILT_IN = {path.stem: path.read_text(encoding="utf-8").replace("\n", "") for path in sorted(FOLDER.glob("*.jinja"))}
END_OF_TURN = {"chatml": "<|im_end|>", "llama3": "<|eot_id|>", "gemma": "<end_of_turn>"}
"""Tokens that end a turn; the other built-in templates end it with the tokenizer's end token."""
SECONDS = 10.0
"""How long the rendering of one conversation may take."""
OTHER = "choose another data.template"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be tokenised of a conversation: the prompts before its answers, then the whole."""

    texts: list[str]
    mask: Mask


@dataclass(frozen=True, slots=True)
class Learned:
    """The tokens of a conversation and which of them are learned; `missed` answers could not be (see `Template.join`)."""

    ids: list[int]
    learn: list[bool]
    missed: int = 0


@dataclass(slots=True)
class Template:
    """A chat format bound to a tokenizer. `name` is a built-in's, or `tokenizer`."""

    name: str
    tokenizer: PreTrainedTokenizerBase
    arguments: dict[str, Any] = field(default_factory=dict)
    """What the template reads besides messages and tools, such as `enable_thinking`."""
    _stops: list[int] = field(default_factory=list)
    _dialect: Dialect | None = None

    @property
    def dialect(self) -> Dialect:
        """What the template reads of a message."""
        if self._dialect is None:
            self._dialect = Dialect(self._render)
        return self._dialect

    def text(self, messages: Sequence[Message], prompt: bool) -> str:
        """The conversation as text; with `prompt` the opening of the answer follows. Raises DataError."""
        return self._render(*self.dialect.turns(messages), prompt)

    def _render(self, turns: list[dict[str, Any]], tools: list[dict[str, Any]], prompt: bool) -> str:
        more = {"tools": tools} if tools else {}
        try:
            with time_box(SECONDS):
                return str(self.tokenizer.apply_chat_template(
                    turns, tokenize=False, add_generation_prompt=prompt, **more, **self.arguments,
                ))
        except (TemplateError, ValueError, TypeError, OverflowError, TimeoutError) as error:
            said = " ".join(str(error).split())
            raise DataError(f"the chat template {self.name} refuses a conversation ({said}); {OTHER}.") from error

    def encode_prompt(self, messages: Sequence[Message]) -> list[int]:
        """The tokens before an answer, as at inference: those of transformers' apply_chat_template."""
        return self.tokenise([self.text(messages, prompt=True)])[0]

    def answer(self, text: str) -> Message:
        """What the model has said, as a message; where the template reads reasoning, that which was closed with `</think>` apart."""
        thought, close, said = text.rpartition("</think>")
        if not close or not self.dialect.reasoning:
            return Message("assistant", text.strip())
        return Message("assistant", said.strip(), reasoning=thought.strip().removeprefix("<think>").strip())

    def encode_chat(self, messages: Sequence[Message], mask: Mask | str) -> tuple[list[int], list[bool]]:
        """The tokens of a conversation, and which are learned: answers with their end, the last answer only, or all.

        Raises DataError where the template does not write in training what it writes at inference.
        """
        plan = self.plan(messages, mask)
        learned = self.join(plan, self.tokenise(plan.texts))
        return learned.ids, learned.learn

    def plan(self, messages: Sequence[Message], mask: Mask | str) -> Plan:
        """The texts to tokenise: a prompt for each answer (`mask=last` and `all`: the last), then the whole. Raises DataError."""
        mask = Mask(mask)
        answers = [i for i, m in enumerate(messages) if m.role == "assistant"]
        whole = self.text(messages, prompt=False)
        learned = answers if mask is Mask.answers else answers[-1:]
        prompts = [self.text(messages[:i], prompt=True) for i in learned]
        so_far = [*prompts, *(self.text(messages[: i + 1], prompt=False) for i in learned[:-1])]
        if not whole.startswith(prompts[-1]):
            raise DataError(f"the chat template {self.name} opens an answer otherwise at inference than in training; {OTHER}.")
        if not all(whole.startswith(text) for text in so_far):
            raise DataError(
                f"the chat template {self.name} writes earlier turns otherwise once later ones follow, so that training would "
                f"differ from inference; set data.mask=last, or {OTHER}."
            )
        for message in messages:
            if message.role != "assistant" and message.content.strip() not in whole:
                raise DataError(f"the chat template {self.name} leaves out what a {message.role} message says; {OTHER}.")
        return Plan([*prompts, whole], mask)

    def tokenise(self, texts: list[str]) -> list[list[int]]:
        """The tokens of each text; nothing is added that the text does not say."""
        found: list[list[int]] = self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        return found

    def join(self, plan: Plan, tokens: list[list[int]]) -> Learned:
        """A plan and the tokens of its texts as one sequence.

        An answer before the last is learned only where the tokens before it are those of its prompt; where the tokenizer
        merges across the border it is not, and counted in `missed`.
        """
        *prompts, whole = tokens
        last = prompts[-1]
        ids = whole if whole[: len(last)] == last else last + self._inside(plan.texts[-1][len(plan.texts[-2]) :])
        if plan.mask is Mask.all:
            return Learned(ids, [True] * len(ids))
        learn, missed = [False] * len(ids), 0
        for prompt, following in zip(prompts, [*prompts[1:], ids], strict=True):
            if ids[: len(prompt)] != prompt:
                missed += 1
                continue
            end = self._end(ids, len(prompt), min(len(following), len(ids)))
            learn[len(prompt) : end] = [True] * (end - len(prompt))
        return Learned(ids, learn, missed)

    @property
    def stop_ids(self) -> list[int]:
        """The tokens at which an answer ends: the template's own, then the tokenizer's end token."""
        if not self._stops:
            turn_end = self._turn_end()
            self._stops = list(dict.fromkeys(int(i) for i in (turn_end, self.tokenizer.eos_token_id) if i is not None))
        return self._stops

    def holds_stop(self, messages: Sequence[Message]) -> bool:
        """Whether an answer contains the text of a stop token, which would end it early."""
        marks = [str(self.tokenizer.convert_ids_to_tokens(i)) for i in self.stop_ids]
        return any(mark in m.content for m in messages if m.role == "assistant" for mark in marks)

    def _turn_end(self) -> int | None:
        """The first special token that follows the content of an answer."""
        messages = [Message("user", "Hello"), Message("assistant", "Yes")]
        closing = self.text(messages, prompt=False).rpartition("Yes")[2]
        special = {*self.tokenizer.all_special_ids, *self.tokenizer.added_tokens_decoder}
        return next((i for i in self.tokenise([closing])[0] if i in special), None) if closing else None

    def _end(self, ids: list[int], start: int, limit: int) -> int:
        """Where the answer that begins at `start` ends: after its first stop token."""
        stops = set(self.stop_ids)
        return next((i + 1 for i in range(start, limit) if ids[i] in stops), limit)

    def _inside(self, text: str) -> list[int]:
        """The tokens of a text that stands inside another: without the space that SentencePiece puts before a first word."""
        after, mark = self.tokenise(["\n" + text, "\n"])
        return after[len(mark) :] if after[: len(mark)] == mark else self.tokenise([text])[0]

    def check(self) -> None:
        """Raise ConfigError where answers would have no end to learn, or a conversation starts twice."""
        if self._turn_end() is None:
            raise ConfigError(
                f"The chat template {self.name} writes no end after an answer: the model would not learn to stop; set data.template=chatml."
            )
        start = self.tokenizer.bos_token_id
        if start is not None and self.encode_prompt([Message("user", "Hello")])[:2] == [start, start]:
            raise ConfigError(f"The chat template {self.name} starts a conversation with two start tokens; {OTHER}.")


def resolve(name: str | None, tokenizer: PreTrainedTokenizerBase) -> Template:
    """The template: the tokenizer's own where `name` is None and it has one, else a built-in, which the tokenizer then keeps.

    Raises ConfigError for an unknown name or a template that cannot be learned from, DataError for one that does not render.
    """
    own = name is None and bool(tokenizer.chat_template)
    template = Template("tokenizer" if own else name or "chatml", tokenizer)
    if not own:
        tokenizer.chat_template = bound(template.name, tokenizer)
    template.check()
    return template


def bound(name: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """The Jinja text of a built-in template, with the end and the start that this tokenizer has. Raises ConfigError."""
    if name not in BUILT_IN:
        raise ConfigError(f"data.template={name} is not built in.{did_you_mean(name, BUILT_IN)} There are: {', '.join(BUILT_IN)}.")
    if tokenizer.eos_token is None:
        raise ConfigError(f"data.template={name} ends answers with the end token, and the tokenizer has none; set its eos_token.")
    text, end = BUILT_IN[name], END_OF_TURN.get(name)
    if end and not is_token(end, tokenizer):
        text = text.replace(f"'{end}'", "eos_token")  # the model has no such token: its own end token ends a turn
    return "{{ bos_token }}" + text if adds_start(tokenizer) else text


def is_token(text: str, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether `text` is one token of its own."""
    number = tokenizer.convert_tokens_to_ids(text)
    return number not in (None, tokenizer.unk_token_id) and tokenizer(text, add_special_tokens=False)["input_ids"] == [number]


def adds_start(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer puts a start token before plain text: then a conversation has one as well."""
    return tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
