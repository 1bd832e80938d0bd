"""Conversations as tokens, in training and at inference the same, and which of them are learned.

The tokens before each learned answer are those that `encode_prompt` gives for the conversation so far: where tokens of
the prompt and of the answer would merge, the prompt is tokenised on its own, as it is when the model is asked.
transformers marks answers itself where a template has `{% generation %}`; hardly any template has it, and the mark does
not cover the end of the turn, so the answers are found here by comparing renderings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from fulgurite.data.answers import OTHER, RowPlan, find_head, plan_rows
from fulgurite.data.config import Mask, SpecialTokens
from fulgurite.data.example import Conversation, Message
from fulgurite.data.special_tokens import START, SpecialTexts
from fulgurite.data.template_dialect import Dialect
from fulgurite.data.timeout import LimitExceeded, run_bounded
from fulgurite.errors import ConfigError, DataError, FulguriteError, suggest_similar
from fulgurite.foreign_code import describe_error
from fulgurite.text.console import shorten

FOLDER = Path(__file__).parent / "templates"
BUILT_IN = {path.stem: path.read_text(encoding="utf-8").replace("\n", "") for path in sorted(FOLDER.glob("*.jinja"))}
END_OF_TURN = {"chatml": "<|im_end|>", "llama3": "<|eot_id|>", "gemma": "<end_of_turn>"}
"""Tokens that end a turn; the other built-in templates end it with the tokenizer's end token."""
SECONDS = 10.0
"""How long the rendering of one conversation may take."""
MOST_VARIANTS = 64
"""How many sets of arguments that single conversations have are kept ready."""
MEMORY = 1 << 30
"""Bytes that the rendering of one conversation may take beyond what the process has."""


@dataclass(frozen=True, slots=True)
class Learned:
    """The tokens of a conversation and which of them are learned; `missed` answers could not be (see `Template.join`).
    """

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
    special_tokens: SpecialTokens = SpecialTokens.escape
    """Whether the text of a special token inside a message is encoded as plain text; with `keep` it is encoded as the
    token.
    """
    _special: SpecialTexts | None = None
    _stops: list[int] = field(default_factory=list)
    _dialect: Dialect | None = None
    _head: tuple[str, str] | None = None
    _variants: dict[str, Template] = field(default_factory=dict)

    @property
    def dialect(self) -> Dialect:
        """What the template reads of a message."""
        if self._dialect is None:
            self._dialect = Dialect(self._render)
        return self._dialect

    @property
    def special(self) -> SpecialTexts:
        """The special tokens of the tokenizer, as they are written."""
        if self._special is None:
            self._special = SpecialTexts(self.tokenizer)
        return self._special

    def _marked(self, messages: Sequence[Message]) -> Sequence[Message]:
        """The conversation with marks around the texts that are to be encoded as plain text."""
        return messages if self.special_tokens == SpecialTokens.keep else self.special.mark(messages)

    def text(self, messages: Sequence[Message], prompt: bool) -> str:
        """The conversation as text; with `prompt` the opening of the answer follows. Raises DataError.

        The texts of special tokens inside messages are marked, for `tokenise`.
        """
        if isinstance(messages, Conversation) and messages.arguments:
            return self._with(messages.arguments).text(replace(messages, arguments={}), prompt)
        return self._render(*self.dialect.turns(self._marked(messages)), prompt)

    def _with(self, arguments: Mapping[str, Any]) -> Template:
        """The template with the arguments of one conversation."""
        key = repr(sorted(arguments.items()))
        if key not in self._variants:
            if len(self._variants) >= MOST_VARIANTS:
                self._variants.clear()
            merged = {**self.arguments, **arguments}
            self._variants[key] = Template(
                self.name, self.tokenizer, merged, self.special_tokens, self.special, self.stop_ids
            )
        return self._variants[key]

    def _render(self, turns: list[dict[str, Any]], tools: list[dict[str, Any]], prompt: bool) -> str:
        more = {"tools": tools} if tools else {}
        def render() -> str:
            return str(
                self.tokenizer.apply_chat_template(
                    turns, tokenize=False, add_generation_prompt=prompt, **more, **self.arguments
                )
            )

        try:
            return run_bounded(render, SECONDS, MEMORY)
        except FulguriteError:
            raise
        except Exception as error:  # a template is a program of somebody else's: it may raise whatever Python has
            plain = isinstance(error, TemplateError | ValueError | TypeError | LimitExceeded)
            said = " ".join(str(error).split()) if plain else describe_error(error)
            raise DataError(
                f"the chat template {self.name} refuses a conversation ({shorten(said, 300)}); {OTHER}."
            ) from error

    def encode_prompt(self, messages: Sequence[Message]) -> list[int]:
        """The tokens before an answer, as at inference: those of transformers' apply_chat_template."""
        return self.tokenise([self.text(messages, prompt=True)])[0]

    def answer(self, text: str) -> Message:
        """What the model has said, as a message; where the template reads reasoning, that which was closed with
        `</think>` apart.
        """
        thought, close, said = text.rpartition("</think>")
        if not close or not self.dialect.reasoning:
            return Message("assistant", text.strip())
        return Message("assistant", said.strip(), reasoning=thought.strip().removeprefix("<think>").strip())

    def encode_chat(self, messages: Sequence[Message], mask: Mask | str) -> tuple[list[int], list[bool]]:
        """The tokens of a conversation in one row, and which are learned: answers with their end, the last answer only,
        or all.

        Raises DataError if the template does not write in training what it writes at inference, or writes each answer
        in a row of its own.
        """
        plan = self.plan(messages, mask)
        learned = self.join(plan, self.tokenise(plan.texts))
        return learned.ids, learned.learn

    def encode_rows(self, messages: Sequence[Message], mask: Mask | str) -> list[Learned]:
        """The rows of a conversation: one, or one for each answer if the template writes earlier turns otherwise once
        later ones follow.
        """
        return [self.join(plan, self.tokenise(plan.texts)) for plan in self.plans(messages, mask)]

    def plan(self, messages: Sequence[Message], mask: Mask | str) -> RowPlan:
        """The texts to tokenise, of a conversation that is one row. Raises DataError."""
        plans = self.plans(messages, mask)
        if len(plans) != 1:
            raise DataError(
                f"the chat template {self.name} writes earlier turns otherwise once later ones follow: there are "
                f"{len(plans)} rows, "
                "one for each answer; set data.mask=last for one."
            )
        return plans[0]

    def plans(self, messages: Sequence[Message], mask: Mask | str) -> list[RowPlan]:
        """The texts to tokenise, for each row. Raises DataError."""
        if isinstance(messages, Conversation) and messages.arguments:
            return self._with(messages.arguments).plans(replace(messages, arguments={}), mask)
        return plan_rows(self, self.dialect.fitted(self._marked(messages)), Mask(mask))

    @property
    def head(self) -> str:
        """The head of an answer's turn: the generation prompt without `opening`."""
        return self._answer_head()[0]

    @property
    def opening(self) -> str:
        """What the generation prompt writes beyond the head of an answer's turn."""
        return self._answer_head()[1]

    def _answer_head(self) -> tuple[str, str]:
        if self._head is None:
            self._head = find_head(self)
        return self._head

    def tokenise(self, texts: list[str]) -> list[list[int]]:
        """The tokens of each text; nothing is added that the text does not say. Raises DataError."""
        if not any(START in text for text in texts):
            return encode_texts(self.tokenizer, texts, False)
        return [
            self.special.encode(text) if START in text else encode_texts(self.tokenizer, [text], False)[0]
            for text in texts
        ]

    def join(self, plan: RowPlan, tokens: list[list[int]]) -> Learned:
        """A plan and the tokens of its texts as one sequence.

        An answer before the last is learned only where the tokens before it are those of its prompt; where the
        tokenizer merges across the border it is not, and counted in `missed`.
        """
        *before, ids = tokens
        everything = plan.mask is Mask.all
        last = max((k for k, on in enumerate(plan.learned) if on or everything), default=None)
        if last is not None and ids[: len(before[last])] != before[last]:
            ids = before[last] + self._inside(plan.texts[-1][len(plan.texts[last]) :])
        learn, missed = [everything] * len(ids), 0
        for prompt, following, on in zip(before, [*before[1:], ids], plan.learned, strict=True):
            if on == everything:
                continue
            if on and ids[: len(prompt)] != prompt:
                missed += 1
                continue
            end = self._end(ids, len(prompt), min(len(following), len(ids)))
            learn[len(prompt) : end] = [on] * (end - len(prompt))
        return Learned(ids, learn, missed)

    @property
    def stop_ids(self) -> list[int]:
        """The tokens at which an answer ends: the template's own, then the tokenizer's end token."""
        if not self._stops:
            ends = (self._turn_end(), self.tokenizer.eos_token_id, self._call_end())
            self._stops = list(dict.fromkeys(int(i) for i in ends if i is not None))
        return self._stops

    def holds_stop(self, messages: Sequence[Message]) -> bool:
        """Whether an answer contains the text of a stop token that is encoded as that token, which would end it early.
        """
        marks = [str(self.tokenizer.convert_ids_to_tokens(i)) for i in self.stop_ids]
        said = [self.special.unmarked(m.content) for m in self._marked(messages) if m.role == "assistant"]
        return any(mark in text for text in said for mark in marks)

    def _turn_end(self) -> int | None:
        """The first special token that follows the content of an answer."""
        messages = [Message("user", "Hello"), Message("assistant", "Yes")]
        closing = self.text(messages, prompt=False).rpartition("Yes")[2]
        special = {*self.tokenizer.all_special_ids, *self.tokenizer.added_tokens_decoder}
        return next((i for i in self.tokenise([closing])[0] if i in special), None) if closing else None

    def _call_end(self) -> int | None:
        """The special token that ends an answer of calls; in some templates it is not that of an answer in words."""
        closing, two = self.dialect.closing_of_calls()
        if not closing:
            return None
        special = {i for i, token in self.tokenizer.added_tokens_decoder.items() if token.special} | {
            *self.tokenizer.all_special_ids
        }
        ids, of_two = self.tokenise([closing, two])
        found = [i for i in ids if i in special and of_two.count(i) < 2]  # what closes each call ends no answer
        return found[-1] if found else None

    def _end(self, ids: list[int], start: int, limit: int) -> int:
        """Where the answer that begins at `start` ends: after its first stop token."""
        stops = set(self.stop_ids)
        return next((i + 1 for i in range(start, limit) if ids[i] in stops), limit)

    def _inside(self, text: str) -> list[int]:
        """The tokens of a text that stands inside another: without the space that SentencePiece puts before a first
        word.
        """
        after, mark = self.tokenise(["\n" + text, "\n"])
        return after[len(mark) :] if after[: len(mark)] == mark else self.tokenise([text])[0]

    def check(self) -> None:
        """Raise ConfigError where answers would have no end to learn, or a conversation starts twice."""
        if self._turn_end() is None:
            raise ConfigError(
                f"The chat template {self.name} writes no end after an answer: the model would not learn to stop; set "
                "data.template=chatml."
            )
        start = self.tokenizer.bos_token_id
        if start is not None and self.encode_prompt([Message("user", "Hello")])[:2] == [start, start]:
            raise ConfigError(f"The chat template {self.name} starts a conversation with two start tokens; {OTHER}.")


def encode_texts(tokenizer: PreTrainedTokenizerBase, texts: list[str], add_special_tokens: bool) -> list[list[int]]:
    """The tokens of each text. Raises DataError if the tokenizer refuses one."""
    try:
        found: list[list[int]] = tokenizer(texts, add_special_tokens=add_special_tokens, verbose=False)["input_ids"]
    except (TypeError, ValueError, OverflowError) as error:
        said = " ".join(str(error).split())[:120]
        half = any("\ud800" <= c <= "\udfff" for text in texts for c in text)
        what = "it holds half of a surrogate pair" if half else said
        raise DataError(f"the tokenizer refuses the text ({what}); mend the record.") from error
    return found


def load_template(
    name: str | None, tokenizer: PreTrainedTokenizerBase, arguments: Mapping[str, Any] | None = None,
    special_tokens: SpecialTokens = SpecialTokens.escape,
) -> Template:
    """The template: the tokenizer's own where `name` is None and it has one, else a built-in, which the tokenizer then
    keeps, with the arguments as its defaults.

    Raises ConfigError for an unknown name or a template that cannot be learned from, DataError for one that does not
    render.
    """
    own = name is None and bool(tokenizer.chat_template)
    template = Template(
        "tokenizer" if own else name or "chatml", tokenizer, dict(arguments or {}), SpecialTokens(special_tokens)
    )
    if not own:
        tokenizer.chat_template = bind_template(template.name, tokenizer)
    if arguments:
        tokenizer.chat_template = _set_defaults(tokenizer.chat_template, arguments)
    template.check()
    return template


def _set_defaults(text: Any, arguments: Mapping[str, Any]) -> Any:
    """The template with these arguments as its defaults: it is saved with the model, and a server need not be told of
    them.
    """
    if isinstance(text, dict):
        return {name: _set_defaults(one, arguments) for name, one in text.items()}
    head = "".join(
        f"{{%- set {name} = {name} if {name} is defined else {_write_literal(value)} %}}"
        for name, value in sorted(arguments.items())
    )
    return text if text.startswith(head) else head + text


def _write_literal(value: Any) -> str:
    """A value as Jinja writes it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(key))}: {_write_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_write_literal, value)) + "]"
    return "none" if value is None else json.dumps(value)


def bind_template(name: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """The Jinja text of a built-in template, with the end and the start that this tokenizer has. Raises ConfigError."""
    if name not in BUILT_IN:
        raise ConfigError(
            f"data.template={name} is not built in.{suggest_similar(name, BUILT_IN)} There are: {', '.join(BUILT_IN)}."
        )
    if tokenizer.eos_token is None:
        raise ConfigError(
            f"data.template={name} ends answers with the end token, and the tokenizer has none; set its eos_token."
        )
    text, end = BUILT_IN[name], END_OF_TURN.get(name)
    if end and not is_token(end, tokenizer):
        text = text.replace(f"'{end}'", "eos_token")  # the model has no such token: its own end token ends a turn
    return "{{ bos_token }}" + text if adds_start(tokenizer) else text


def is_token(text: str, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether `text` is one token of its own."""
    number = tokenizer.convert_tokens_to_ids(text)
    return number not in (None, tokenizer.unk_token_id) and tokenizer(text, add_special_tokens=False)["input_ids"] == [
        number
    ]


def adds_start(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer puts a start token before plain text: then a conversation has one as well."""
    return tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
