"""The same prompts answered before training, at each evaluation, and after: what the numbers do not show."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fulgurite.callback.config import SamplesOption
from fulgurite.callback.context import CallbackContext
from fulgurite.data.sample_prompts import choose_sample_prompts
from fulgurite.data.tool_calls import format_call
from fulgurite.files.atomic import write_file
from fulgurite.language.library_errors import translate_system_error
from fulgurite.language.message import UserMessage, message
from fulgurite.logger.metrics_file import read_rows
from fulgurite.model.generate import Answer, continue_prompts
from fulgurite.model.streaming import printable
from fulgurite.model.tokenizer_check import refuse_unknown
from fulgurite.text.console import say

log = logging.getLogger(__name__)

COLUMNS = ("step", "prompt", "answer", "tokens", "stopped")

Prompt = Any
"""A text, or a list of messages."""


def build(config: SamplesOption, context: CallbackContext) -> Samples:
    """The samples of a run, in its folder; none for a stage whose model does not write text."""
    stage, loaded = context.run.stage, context.loaded
    made = Samples(
        context.folder / "samples.jsonl",
        cast(Any, context.module).model,
        loaded.tokenizer,
        context.template if not stage.reads.running_text else None,
        choose_sample_prompts(stage.prompts, context.source, context.val) if stage.speaks else [],
        max_new_tokens=stage.max_new_tokens if stage.speaks else 0,
        total_steps=context.total_steps,
        length=loaded.length,
    )
    if shortened := made.describe_shortened():
        say(message("warning: {sentence}", sentence=shortened))
    return made


class Samples(pl.Callback):  # type: ignore[misc]
    """One row a prompt in `path`: step, prompt, answer, tokens, stopped. Greedy, so that only the weights differ.

    The stage's `computing()` is the context of its compute type. `template` None continues the prompts as raw text.
    """

    def __init__(
        self, path: Path, model: Any, tokenizer: Any, template: Any, prompts: Sequence[Prompt], *,
        max_new_tokens: int, total_steps: int, length: int | None = None,
    ) -> None:
        self._path, self._model, self._tokenizer, self._template = path, model, tokenizer, template
        self._prompts, self._most, self._total = list(prompts), max_new_tokens, total_steps
        self._length = length
        self.rows: list[dict[str, Any]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """The answers before; a resumed run keeps those it has."""
        if trainer.is_global_zero and self._path.exists():
            # Rows after the checkpoint are of a process that was killed: the resumed run draws them again.
            self.rows = [row for row in read_rows(self._path)[0] if row["step"] <= trainer.global_step]
            self._write()
        if trainer.global_step == 0:
            self._sample(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """The answers now."""
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            self._sample(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Samples the answers after training, if the run reached its end."""
        if trainer.global_step >= self._total:
            self._sample(trainer, pl_module)

    def comparison(self) -> str:
        """Returns `format_side_by_side` of the first answers and the last; an empty text if there are not two."""
        steps = sorted({row["step"] for row in self.rows})
        if len(steps) < 2:
            return ""
        first, last = ([row for row in self.rows if row["step"] == step] for step in (steps[0], steps[-1]))
        return format_side_by_side(first, last)

    def _sample(self, trainer: pl.Trainer, stage: Any) -> None:
        if not self._prompts:
            return
        step = trainer.global_step
        sharded = bool(getattr(stage, "is_sharded", False))
        is_due = trainer.is_global_zero and not any(row["step"] == step for row in self.rows)
        if sharded:  # all processes must generate together; the first one knows what it has
            is_due = trainer.strategy.reduce_boolean_decision(is_due, all=False)
        if not is_due:
            return
        ids = [self._ids(prompt) for prompt in self._prompts]
        stops = self._template.stop_ids if self._template else [self._tokenizer.eos_token_id]
        with stage.inference_context():
            answer = partial(self._answer, ids, stops, together=sharded)
            answers = stage.run_gathered(answer) if sharded else answer()
        if sharded:
            stage.free_gathered()
        if not trainer.is_global_zero:
            return
        self.rows += [
            {
                "step": step, "prompt": format_prompt(prompt), "answer": self._show(prompt, a), "tokens": a.tokens,
                "stopped": a.stopped,
            }
            for prompt, a in zip(self._prompts, answers, strict=True)
        ]
        self._write()
        for tracker in trainer.loggers:
            if hasattr(tracker, "log_text"):
                tracker.log_text("samples", list(COLUMNS), [[str(row[c]) for c in COLUMNS] for row in self.rows], step)

    def _answer(self, ids: list[list[int]], stops: list[int], together: bool = False) -> list[Answer]:
        return continue_prompts(
            self._model, self._tokenizer, ids, stops, max_new_tokens=self._most, length=self._length, together=together
        )

    def _show(self, prompt: Prompt, answer: Answer) -> str:
        """Returns the text of an answer; of a prompt with functions, with each call on a line of its own."""
        tools = getattr(prompt, "tools", ())
        if self._template is None or not tools:
            return answer.text
        return format_message(self._template.answer(answer.raw, tools))

    def describe_shortened(self) -> UserMessage:
        """Returns a sentence about the answers that the model's length cuts; empty if there are none.

        Raises ModelError for a token without an embedding.
        """
        ids = [self._ids(prompt) for prompt in self._prompts]
        refuse_unknown(
            self._tokenizer, int(self._model.get_input_embeddings().weight.shape[0]), (i for one in ids for i in one)
        )
        longest = max(map(len, ids), default=0)
        if self._length is None or longest + self._most <= self._length:
            return UserMessage()
        return message(
            "{short} of {count} sample answers are shorter than stage.max_new_tokens={most}: the model reads "
            "{length:,} tokens, and the longest prompt has {longest:,}.",
            short=sum(len(one) + self._most > self._length for one in ids), count=len(ids), most=self._most,
            length=self._length, longest=longest,
        )

    def _ids(self, prompt: Prompt) -> list[int]:
        if self._template is None:
            return list(self._tokenizer(prompt)["input_ids"])
        return list(self._template.encode_prompt(to_messages(prompt)))

    def _write(self) -> None:
        try:
            write_file(self._path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self.rows))
        except OSError as error:
            log.warning(message(
                "{path} cannot be written ({reason}); the run goes on.",
                path=self._path, reason=translate_system_error(error),
            ))


def to_messages(prompt: Prompt) -> Sequence[Any]:
    """A text as one message of the user; messages as they are, with the functions that they may call."""
    from fulgurite.data.example import Message

    return [Message("user", prompt)] if isinstance(prompt, str) else prompt


def format_prompt(prompt: Prompt) -> str:
    """A prompt as a reader sees it: one message as its text, several with their roles."""
    if isinstance(prompt, str):
        return prompt
    if len(prompt) == 1:
        return str(prompt[0].content)
    return "\n".join(f"{message.role}: {format_message(message)}" for message in prompt)


def format_message(message: Any) -> str:
    """The text of a message, with each of its calls on a line of its own: `name(key="text")`."""
    return "\n".join([message.content] * bool(message.content) + [format_call(call) for call in message.tool_calls])


def format_side_by_side(
    before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]], width: int | None = None
) -> str:
    """Plain text, one table a prompt: the prompt, its answer before, its answer after. A cut answer ends in `…`.

    `width` in columns; None takes the terminal's, at most 120.
    """
    out = StringIO()
    console = Console(file=out, width=width or min(Console().width, 120), color_system=None)
    # Paired by the text of the prompt, because one may be missing on either side.
    later = {row["prompt"]: row for row in after}
    for row in before:
        if row["prompt"] not in later:
            continue
        then = later[row["prompt"]]
        table = Table(box=box.MINIMAL, expand=True, pad_edge=False)
        for head in (
            message("before (step {step})", step=row["step"]), message("after (step {step})", step=then["step"])
        ):
            table.add_column(str(head), ratio=1, overflow="fold")
        table.add_row(_format_cell(row), _format_cell(then))
        console.print(Text(f"> {printable(row['prompt']).strip()}"))
        console.print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()).strip() + "\n"


def _format_cell(row: dict[str, Any]) -> Text:
    text = printable(row["answer"]).strip()
    if not text:
        return Text(str(message("(empty)")))
    return Text(text if row["stopped"] else text + " …")
