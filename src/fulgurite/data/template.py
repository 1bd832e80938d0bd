"""Conversations as tokens, in training and at inference the same, and which of them are learned.

The text up to each answer is tokenised on its own, exactly as at inference, and the answer after it: so the tokens that
precede an answer in training are those that will precede it when the model is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from fulgurite.data.config import Mask
from fulgurite.data.records import Message
from fulgurite.errors import ConfigError, DataError, did_you_mean

FOLDER = Path(__file__).parent / "templates"
BUILT_IN = {path.stem: path.read_text(encoding="utf-8").rstrip("\n") for path in sorted(FOLDER.glob("*.jinja"))}
END_OF_TURN = {"chatml": "<|im_end|>", "llama3": "<|eot_id|>"}
"""Tokens that end a turn; the other built-in templates end it with the tokenizer's end token."""


@dataclass(slots=True)
class Template:
    """A chat format bound to a tokenizer. `name` is a built-in's, or `tokenizer`."""

    name: str
    tokenizer: PreTrainedTokenizerBase

    def text(self, messages: Sequence[Message], prompt: bool) -> str:
        """The conversation as text; with `prompt` the opening of the answer follows. Raises DataError."""
        turns = [{"role": m.role, "content": m.content} for m in messages]
        try:
            rendered = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=prompt)
        except (TemplateError, ValueError) as error:
            raise DataError(f"The chat template {self.name} refuses a conversation: {error}; choose another data.template.") from error
        return str(rendered)

    def encode_prompt(self, messages: Sequence[Message]) -> list[int]:
        """The tokens before an answer, as at inference."""
        return self._ids(self.text(messages, prompt=True))

    def encode_chat(self, messages: Sequence[Message], mask: Mask | str) -> tuple[list[int], list[bool]]:
        """The tokens of a conversation, and which are learned: answers with their end, the last answer only, or all.

        Raises DataError where the template writes earlier turns otherwise once later ones follow.
        """
        answers = [i for i, m in enumerate(messages) if m.role == "assistant"]
        starts = answers[-1:] if mask == Mask.last else answers
        ids: list[int] = []
        learn: list[bool] = []
        done = ""
        for i in starts:
            before, whole = self.text(messages[:i], prompt=True), self.text(messages[: i + 1], prompt=False)
            if not before.startswith(done) or not whole.startswith(before):
                raise DataError(
                    f"The chat template {self.name} writes earlier turns otherwise once later ones follow, so that training "
                    "would differ from inference; set data.mask=last, or choose another data.template."
                )
            self._add(ids, learn, self._ids(before[len(done) :]), mask == Mask.all)
            answer = self._ids(whole[len(before) :])
            self._add(ids, learn, answer, True)
            tail = len(answer) - self._end(answer)
            if mask != Mask.all and tail:
                learn[-tail:] = [False] * tail
            done = whole
        rest = self.text(messages, prompt=False)
        if mask == Mask.all and rest.startswith(done):
            self._add(ids, learn, self._ids(rest[len(done) :]), True)
        return ids, learn

    @property
    def stop_ids(self) -> list[int]:
        """The tokens at which an answer ends."""
        ids = [self._ids(piece) for piece in (self._closing(),)]
        stops = [i for piece in ids for i in piece[:1]] + [self.tokenizer.eos_token_id]
        return list(dict.fromkeys(int(i) for i in stops if i is not None))

    def _closing(self) -> str:
        """What follows the content of an answer."""
        messages = [Message("user", "a"), Message("assistant", "b")]
        return self.text(messages, prompt=False)[len(self.text(messages[:1], prompt=True)) :].lstrip().removeprefix("b")

    def _end(self, answer: list[int]) -> int:
        """How many of the answer's tokens are learned: up to and with its last stop token; all where there is none."""
        stops = set(self.stop_ids)
        return next((i + 1 for i in range(len(answer) - 1, -1, -1) if answer[i] in stops), len(answer))

    def _ids(self, text: str) -> list[int]:
        return [int(i) for i in self.tokenizer(text, add_special_tokens=False)["input_ids"]] if text else []

    @staticmethod
    def _add(ids: list[int], learn: list[bool], more: list[int], on: bool) -> None:
        ids += more
        learn += [on] * len(more)


def resolve(name: str | None, tokenizer: PreTrainedTokenizerBase) -> Template:
    """The template: the tokenizer's own where `name` is None and it has one, else a built-in, which the tokenizer then keeps.

    Raises ConfigError for an unknown name.
    """
    if name is None and tokenizer.chat_template:
        return Template("tokenizer", tokenizer)
    chosen = name or "chatml"
    if chosen not in BUILT_IN:
        raise ConfigError(f"data.template={chosen} is not built in.{did_you_mean(chosen, BUILT_IN)} There are: {', '.join(BUILT_IN)}.")
    text, end = BUILT_IN[chosen], END_OF_TURN.get(chosen)
    if end and tokenizer.convert_tokens_to_ids(end) in (None, tokenizer.unk_token_id):
        text = text.replace(f"'{end}'", "eos_token")  # the model has no such token: its own end token ends a turn
    tokenizer.chat_template = text
    return Template(chosen, tokenizer)
