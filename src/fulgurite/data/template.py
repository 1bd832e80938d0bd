"""Conversations as tokens, the same in training and at inference, and the mask of the learned ones.

The tokens before each learned answer are those that `encode_prompt` returns for the conversation so far: if tokens of
the prompt and of the answer would merge, the prompt is tokenized separately, as at inference. transformers marks
answers itself if a template has `{% generation %}`; few templates have it, and the mark does not include the end of the
turn, so the answers are found here by comparing renderings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from fulgurite.data.answers import RowPlan, find_head, plan_rows
from fulgurite.data.call_forms import CallForm, find_form
from fulgurite.data.call_parser import CallParser, parse_calls, read_back
from fulgurite.data.config import Mask, SpecialTokens
from fulgurite.data.example import Conversation, Message
from fulgurite.data.special_tokens import START, SpecialTexts
from fulgurite.data.template_dialect import Dialect
from fulgurite.data.timeout import LimitExceeded, run_bounded
from fulgurite.errors import ConfigError, DataError, FulguriteError, suggest_similar
from fulgurite.foreign_code import describe_error
from fulgurite.language.library_errors import quote_foreign, translate_error

FOLDER = Path(__file__).parent / "templates"
BUILT_IN = {path.stem: path.read_text(encoding="utf-8").replace("\n", "") for path in sorted(FOLDER.glob("*.jinja"))}
END_OF_TURN = {"chatml": "<|im_end|>", "llama3": "<|eot_id|>", "gemma": "<end_of_turn>"}
"""Tokens that end a turn; the other built-in templates end it with the tokenizer's end token."""
SECONDS = 10.0
"""Maximum time to render one conversation."""
MOST_VARIANTS = 64
"""Maximum number of templates that are kept for the arguments of single conversations."""
MEMORY = 1 << 30
"""Maximum bytes to render one conversation, beyond the current size of the process."""


@dataclass(frozen=True, slots=True)
class Learned:
    """The tokens of a conversation, the mask of the learned ones, and the number of answers that cannot be learned (see
    `Template.join`)."""

    ids: list[int]
    learn: list[bool]
    missed: int = 0


@dataclass(slots=True)
class Template:
    """A chat format bound to a tokenizer. `name` is a built-in's, or `tokenizer`."""

    name: str
    tokenizer: PreTrainedTokenizerBase
    arguments: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the template, such as `enable_thinking`."""
    special_tokens: SpecialTokens = SpecialTokens.escape
    """`keep` encodes the text of a special token inside a message as that token; the other values as plain text."""
    _special: SpecialTexts | None = None
    _stops: list[int] = field(default_factory=list)
    _dialect: Dialect | None = None
    _head: tuple[str, str] | None = None
    _forms: list[CallForm | None] = field(default_factory=list)
    _variants: dict[str, Template] = field(default_factory=dict)

    @property
    def dialect(self) -> Dialect:
        """The parts of a message that the template supports."""
        if self._dialect is None:
            self._dialect = Dialect(self._render)
        return self._dialect

    @property
    def special(self) -> SpecialTexts:
        """The texts of the special tokens of the tokenizer."""
        if self._special is None:
            self._special = SpecialTexts(self.tokenizer)
        return self._special

    def _marked(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Returns the conversation with marks around the texts that are to be encoded as plain text."""
        return messages if self.special_tokens == SpecialTokens.keep else self.special.mark(messages)

    def text(self, messages: Sequence[Message], prompt: bool) -> str:
        """Renders the conversation as text; if `prompt` is true, with the opening of the answer. Raises DataError.

        The texts of special tokens inside messages are marked, for `tokenise`.
        """
        if isinstance(messages, Conversation) and messages.arguments:
            return self._with(messages.arguments).text(replace(messages, arguments={}), prompt)
        return self._render(*self.dialect.turns(self._marked(messages)), prompt)

    def _with(self, arguments: Mapping[str, Any]) -> Template:
        """Returns the template with the arguments of one conversation."""
        # Records with the same arguments share one template.
        key = repr(sorted(arguments.items()))
        if key not in self._variants:
            # Arguments may differ in every record: the cache must not grow with the data.
            if len(self._variants) >= MOST_VARIANTS:
                self._variants.clear()
            merged = {**self.arguments, **arguments}
            self._variants[key] = Template(
                self.name, self.tokenizer, merged, self.special_tokens, self.special, self.stop_ids
            )
        return self._variants[key]

    def _render(self, turns: list[dict[str, Any]], tools: list[dict[str, Any]], prompt: bool) -> str:
        more = {"tools": tools} if tools else {}
        how = {"tokenize": False, "add_generation_prompt": prompt} | more | self.arguments
        def render() -> str:
            return str(self.tokenizer.apply_chat_template(turns, **how))

        try:
            return run_bounded(render, SECONDS, MEMORY)
        except FulguriteError:
            raise
        except Exception as error:  # a template is foreign code: it may raise any exception
            plain = isinstance(error, TemplateError | ValueError | TypeError | LimitExceeded)
            raise DataError(
                "the chat template {name} does not accept a conversation ({reason}); set another data.template.",
                name=self.name, reason=quote_foreign(error if plain else describe_error(error), 300),
            ) from error

    def encode_prompt(self, messages: Sequence[Message]) -> list[int]:
        """Returns the tokens before an answer, as at inference: those of transformers' apply_chat_template."""
        return self.tokenise([self.text(messages, prompt=True)])[0]

    @property
    def call_form(self) -> CallForm | None:
        """The form in which the template writes calls; None if it is none that can be read back."""
        if not self._forms:
            self._forms.append(find_form(self.text, read_back))
        return self._forms[0]

    def build_call_parser(self, tools: Sequence[Mapping[str, Any]]) -> CallParser:
        """Returns a parser of one answer, which may be generated with its special tokens."""
        return CallParser(self.call_form, tools, thinking=self._opens_thought(), hidden=self.special.texts)

    def _opens_thought(self) -> bool:
        return (self.head + self.opening).rstrip().endswith("<think>")

    def answer(self, text: str, tools: Sequence[Mapping[str, Any]] = ()) -> Message:
        """Converts generated text to a message; separates the reasoning before `</think>` if the template supports
        reasoning, and the calls of `tools`, for which the text should have its special tokens."""
        # The last closing tag: an answer may quote the tag in its reasoning.
        thought, close, said = text.rpartition("</think>")
        if not close or not self.dialect.reasoning:
            thought, said = "", text
        reasoning = thought.strip().removeprefix("<think>").strip()
        if not tools:
            return Message("assistant", said.strip(), (), reasoning)
        thinking = not close and self._opens_thought()  # a thought that the limit of tokens cut
        parsed = parse_calls(self.call_form, said, tools, thinking=thinking, hidden=self.special.texts)
        return Message("assistant", parsed.text, tuple(call.to_dict() for call in parsed.calls), reasoning)

    def encode_chat(self, messages: Sequence[Message], mask: Mask | str) -> tuple[list[int], list[bool]]:
        """Returns the tokens of a conversation in one row, and the mask of the learned ones: answers with their end,
        the last answer only, or all.

        Raises DataError if the template renders differently in training and at inference, or needs a row per answer.
        """
        plan = self.plan(messages, mask)
        learned = self.join(plan, self.tokenise(plan.texts))
        return learned.ids, learned.learn

    def encode_rows(self, messages: Sequence[Message], mask: Mask | str) -> list[Learned]:
        """Returns the rows of a conversation: one, or one per answer if the template renders earlier turns differently
        once later ones follow."""
        return [self.join(plan, self.tokenise(plan.texts)) for plan in self.plans(messages, mask)]

    def plan(self, messages: Sequence[Message], mask: Mask | str) -> RowPlan:
        """Returns the texts to tokenize of a conversation that is one row. Raises DataError."""
        plans = self.plans(messages, mask)
        if len(plans) != 1:
            raise DataError(
                "the chat template {name} renders earlier turns differently once later ones follow, which gives "
                "{count} rows, one per answer; set data.mask=last for one row.",
                name=self.name, count=len(plans),
            )
        return plans[0]

    def plans(self, messages: Sequence[Message], mask: Mask | str) -> list[RowPlan]:
        """Returns the texts to tokenize, for each row. Raises DataError."""
        if isinstance(messages, Conversation) and messages.arguments:
            return self._with(messages.arguments).plans(replace(messages, arguments={}), mask)
        return plan_rows(self, self.dialect.fitted(self._marked(messages)), Mask(mask))

    @property
    def head(self) -> str:
        """The head of an answer's turn: the generation prompt without `opening`."""
        return self._answer_head()[0]

    @property
    def opening(self) -> str:
        """The text that the generation prompt adds to the head of an answer's turn."""
        return self._answer_head()[1]

    def _answer_head(self) -> tuple[str, str]:
        if self._head is None:
            self._head = find_head(self)
        return self._head

    def tokenise(self, texts: list[str]) -> list[list[int]]:
        """Tokenizes each text without adding special tokens. Raises DataError."""
        # The usual case: one call of the fast tokenizer for all texts.
        if not any(START in text for text in texts):
            return encode_texts(self.tokenizer, texts, False)
        return [
            self.special.encode(text) if START in text else encode_texts(self.tokenizer, [text], False)[0]
            for text in texts
        ]

    def join(self, plan: RowPlan, tokens: list[list[int]]) -> Learned:
        """Joins a plan and the tokens of its texts to one sequence.

        An answer before the last is learned only if the tokens before it are those of its prompt. If the tokenizer
        merges characters across the border, it is not learned but counted in `missed`.
        """
        *before, ids = tokens
        everything = plan.mask is Mask.all
        last = max((k for k, on in enumerate(plan.learned) if on or everything), default=None)
        # The last learned answer must follow exactly the tokens of its prompt: tokenize it separately if needed.
        if last is not None and ids[: len(before[last])] != before[last]:
            ids = before[last] + self._inside(plan.texts[-1][len(plan.texts[last]) :])
        learn, missed = [everything] * len(ids), 0
        for prompt, following, on in zip(before, [*before[1:], ids], plan.learned, strict=True):
            if on == everything:
                continue
            # Characters were merged across the border of this answer, so it cannot be learned.
            if on and ids[: len(prompt)] != prompt:
                missed += 1
                continue
            # The answer ends with its stop token; what the template writes after it is not learned.
            end = self._end(ids, len(prompt), min(len(following), len(ids)))
            learn[len(prompt) : end] = [on] * (end - len(prompt))
        return Learned(ids, learn, missed)

    @property
    def stop_ids(self) -> list[int]:
        """The tokens at which an answer ends: the template's own, then the tokenizer's end token."""
        if not self._stops:
            # Without duplicates, in this order: the first one ends answers in training.
            ends = (self._turn_end(), self.tokenizer.eos_token_id, self._call_end())
            self._stops = list(dict.fromkeys(int(i) for i in ends if i is not None))
        return self._stops

    def holds_stop(self, messages: Sequence[Message]) -> bool:
        """Returns whether an answer contains the text of a stop token that is encoded as that token and would end
        it."""
        marks = [str(self.tokenizer.convert_ids_to_tokens(i)) for i in self.stop_ids]
        said = [self.special.unmarked(m.content) for m in self._marked(messages) if m.role == "assistant"]
        return any(mark in text for text in said for mark in marks)

    def _turn_end(self) -> int | None:
        """Returns the first special token after the content of an answer."""
        messages = [Message("user", "Hello"), Message("assistant", "Yes")]
        # What the template writes after the content of an answer.
        closing = self.text(messages, prompt=False).rpartition("Yes")[2]
        special = {*self.tokenizer.all_special_ids, *self.tokenizer.added_tokens_decoder}
        return next((i for i in self.tokenise([closing])[0] if i in special), None) if closing else None

    def _call_end(self) -> int | None:
        """Returns the special token that ends an answer with calls; in some templates it differs from that of a
        text."""
        closing, two = self.dialect.closing_of_calls()
        if not closing:
            return None
        special = {i for i, token in self.tokenizer.added_tokens_decoder.items() if token.special} | {
            *self.tokenizer.all_special_ids
        }
        ids, of_two = self.tokenise([closing, two])
        # A token that occurs after each of two calls ends a call, not the answer.
        found = [i for i in ids if i in special and of_two.count(i) < 2]
        return found[-1] if found else None

    def _end(self, ids: list[int], start: int, limit: int) -> int:
        """Returns the end of the answer that begins at `start`: the position after its first stop token."""
        stops = set(self.stop_ids)
        return next((i + 1 for i in range(start, limit) if ids[i] in stops), limit)

    def _inside(self, text: str) -> list[int]:
        """Tokenizes a text that is inside another one: without the space that SentencePiece puts before the first word.
        """
        # Tokenize after a line break, and remove the tokens of the line break.
        after, mark = self.tokenise(["\n" + text, "\n"])
        return after[len(mark) :] if after[: len(mark)] == mark else self.tokenise([text])[0]

    def check(self) -> None:
        """Raises ConfigError if answers have no end token to learn, or a conversation has two start tokens."""
        if self._turn_end() is None:
            raise ConfigError(
                "The chat template {name} writes no end token after an answer, so the model would not learn to stop; "
                "set data.template=chatml.",
                name=self.name,
            )
        # The tokenizer adds a start token to text, and many templates write one themselves.
        start = self.tokenizer.bos_token_id
        if start is not None and self.encode_prompt([Message("user", "Hello")])[:2] == [start, start]:
            raise ConfigError(
                "The chat template {name} begins a conversation with two start tokens; set another data.template.",
                name=self.name,
            )


def encode_texts(tokenizer: PreTrainedTokenizerBase, texts: list[str], add_special_tokens: bool) -> list[list[int]]:
    """Tokenizes each text. Raises DataError if the tokenizer refuses one."""
    try:
        found: list[list[int]] = tokenizer(texts, add_special_tokens=add_special_tokens, verbose=False)["input_ids"]
    except (TypeError, ValueError, OverflowError) as error:
        if any("\ud800" <= c <= "\udfff" for text in texts for c in text):
            raise DataError(
                "the text contains half of a surrogate pair, which cannot be tokenized; correct the record."
            ) from error
        raise DataError(
            "the tokenizer does not accept the text ({reason}); correct the record.",
            reason=translate_error(error, 120),
        ) from error
    return found


def load_template(
    name: str | None, tokenizer: PreTrainedTokenizerBase, arguments: Mapping[str, Any] | None = None,
    special_tokens: SpecialTokens = SpecialTokens.escape,
) -> Template:
    """Returns the tokenizer's own template if `name` is None and it has one, else a built-in one, which is stored in
    the tokenizer with the arguments as its defaults.

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
    """Returns the template with these arguments as its defaults: it is saved with the model, so that a server needs no
    setting for them."""
    if isinstance(text, dict):
        return {name: _set_defaults(one, arguments) for name, one in text.items()}
    # A value that the caller passes overrides the default.
    head = "".join(
        f"{{%- set {name} = {name} if {name} is defined else {_write_literal(value)} %}}"
        for name, value in sorted(arguments.items())
    )
    return text if text.startswith(head) else head + text


def _write_literal(value: Any) -> str:
    """Formats a value as a Jinja literal."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(key))}: {_write_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_write_literal, value)) + "]"
    return "none" if value is None else json.dumps(value)


def bind_template(name: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """Returns the Jinja text of a built-in template with the tokenizer's start and end tokens. Raises ConfigError."""
    if name not in BUILT_IN:
        raise ConfigError(
            "data.template={name} is not a built-in template.{hint} The built-in templates are {known}.",
            name=name, hint=suggest_similar(name, BUILT_IN), known=", ".join(BUILT_IN),
        )
    if tokenizer.eos_token is None:
        raise ConfigError(
            "data.template={name} ends answers with the end token, but the tokenizer has none; set its eos_token.",
            name=name,
        )
    text, end = BUILT_IN[name], END_OF_TURN.get(name)
    if end and not is_token(end, tokenizer):
        # The tokenizer does not have the template's end token: the model's own end token ends a turn.
        text = text.replace(f"'{end}'", "eos_token")
    return "{{ bos_token }}" + text if adds_start(tokenizer) else text


def is_token(text: str, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Returns whether `text` is one token."""
    number = tokenizer.convert_tokens_to_ids(text)
    return number not in (None, tokenizer.unk_token_id) and tokenizer(text, add_special_tokens=False)["input_ids"] == [
        number
    ]


def adds_start(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Returns whether the tokenizer puts a start token before plain text; a conversation then has one as well."""
    return tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
