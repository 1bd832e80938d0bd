"""`fulgurite chat`: talk with a run or a model, in the chat format it was trained in. Loads no torch before it must."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from fulgurite.config.arguments import parse
from fulgurite.config.chat_arguments import ChatConfig
from fulgurite.config.guard import Allowed, split_allowed
from fulgurite.errors import ConfigError, ModelError, suggest_similar
from fulgurite.text.console import escape


@dataclass(slots=True)
class Partner:
    """A model ready to talk: `limit` is the longest input in tokens."""

    model: Any
    tokenizer: Any
    template: Any
    limit: int
    context: Callable[[], AbstractContextManager[Any]] = nullcontext


def chat_main(words: Sequence[str]) -> int:
    """`fulgurite chat run=...`. Returns the exit status; raises ConfigError or ModelError for a wrong request."""
    allowed, words = split_allowed(words)
    config = read(words)
    if sys.stdin.isatty():
        print("Loading ...", file=sys.stderr, flush=True)
    partner = _load(config, allowed)
    return ChatSession(partner, config, sys.stdout).hold(sys.stdin)


def read(words: Sequence[str]) -> ChatConfig:
    """`knob=value` words as a ChatConfig. Raises ConfigError."""
    config = parse(ChatConfig, words, "chat")
    if config.checkpoint not in ("best", "last") and not config.checkpoint.startswith("step-"):
        raise ConfigError(f"checkpoint={config.checkpoint} is not allowed: it must be best, last, or step-N.")
    if (config.run is None) == (config.model is None):
        raise ConfigError("Say who answers: run=<run folder> or model=<folder or option>, one of the two.")
    if (
        config.model is not None
        and (Path(config.model) / "checkpoints").is_dir()
        and (Path(config.model) / "provenance.json").is_file()
    ):
        raise ConfigError(f"model={config.model} is a run's folder: write fulgurite chat run={config.model}.")
    return config


class ChatSession:
    """Turns of one conversation, written to `out` as they come."""

    def __init__(self, partner: Partner, config: ChatConfig, out: TextIO) -> None:
        self._partner, self._config, self._out = partner, config, out
        self._turns: list[Any] = []
        self._system = config.system
        self._answers = 0

    def hold(self, source: TextIO) -> int:
        """Answer each line of `source` until its end or /quit. On a terminal a prompt is shown. Returns 0."""
        person = source.isatty()
        if person:
            self._say("Ask something. /reset forgets, /system TEXT sets the system message, /quit leaves.\n")
        self._say_moved()
        while True:
            try:
                line = _ask(person, source)
            except KeyboardInterrupt:
                self._say("\n")
                continue
            if line is None:
                self._say("\n" if person else "")
                return 0
            if not (text := line.strip()):
                continue
            if text.startswith("/"):
                if not self.command(text):
                    return 0
            else:
                if not person:
                    self._say(f"> {escape(text)}\n")
                self.answer(text)

    def command(self, text: str) -> bool:
        """Do what a line with a slash says; False to leave."""
        name, _, rest = text[1:].partition(" ")
        if name in ("quit", "exit"):
            return False
        if name == "reset":
            self._turns.clear()
            self._say("(forgotten)\n")
        elif name == "system":
            self._system = rest.strip() or None
            self._turns.clear()
            self._say("(a new conversation, with this system message)\n" if self._system else "(no system message)\n")
            self._say_moved()
        else:
            near = suggest_similar(name, ("reset", "system", "quit"))
            self._say(f"(there is no /{escape(name)}.{near} /reset, /system TEXT and /quit are known)\n")
        return True

    def answer(self, text: str) -> None:
        """Stream the answer to `text`; it and its question are remembered, also where it was stopped by Ctrl-C."""
        from fulgurite.data.example import Message
        from fulgurite.model.generate import generate
        from fulgurite.model.streaming import Stream

        if not self._make_room(text):
            return
        stream = Stream(self._partner.tokenizer, self._out)
        try:
            done = generate(
                self._partner.model, self._partner.tokenizer, self._partner.template, self._messages(text),
                max_new_tokens=self._config.max_new_tokens, temperature=self._config.temperature,
                top_p=self._config.top_p, streamer=stream, seed=self._seed(), context=self._partner.context(),
                length=self._partner.limit,
            )
            limit = f"the {self._partner.limit} tokens that the model reads"
            cut = "max_new_tokens" if done.tokens >= self._config.max_new_tokens else limit
            said, note = done.text, "" if done.stopped else f" (cut at {cut})"
        except ModelError as error:
            self._say(f"({error})\n")
            return
        except KeyboardInterrupt:
            said, note = stream.text, " (stopped)"
        self._say(f"{note}\n")
        self._turns += [Message("user", text), self._partner.template.answer(said)]
        self._answers += 1

    def _say_moved(self) -> None:
        """Tell where the system message goes if the chat template takes none, as in training."""
        if self._system and not self._partner.template.dialect.system:
            self._say("(the chat template takes no system message: the first question begins with it)\n")

    def _make_room(self, text: str) -> bool:
        """Forget the oldest turns, and say so, until question and answer fit into what the model can read."""
        dropped = 0
        while (length := len(self._partner.template.encode_prompt(self._messages(text)))) >= self._partner.limit - 1:
            if not self._turns:
                self._say(f"(this question has {length} tokens; the model reads at most {self._partner.limit})\n")
                return False
            del self._turns[:2]
            dropped += 1
        if dropped:
            limit = self._partner.limit
            self._say(f"(the model reads at most {limit} tokens: the oldest {dropped} turns are forgotten)\n")
        return True

    def _messages(self, text: str) -> list[Any]:
        from fulgurite.data.example import Message

        system = [Message("system", self._system)] if self._system else []
        return [*system, *self._turns, Message("user", text)]

    def _seed(self) -> int | None:
        return None if self._config.seed is None else self._config.seed + self._answers

    def _say(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def _ask(person: bool, source: TextIO) -> str | None:
    """One line, or None at the end. `input` gives a person the line editing and history of readline."""
    if not person:
        return source.readline() or None
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401
    try:
        return input("> ")
    except EOFError:
        return None


def _load(config: ChatConfig, allowed: Allowed) -> Partner:
    import torch

    from fulgurite.config.registry import import_plugins
    from fulgurite.data.template import load_template
    from fulgurite.model.load import loaded as measured

    import_plugins(allowed.plugins)
    if config.run is not None:
        from fulgurite.run.load import load_run
        from fulgurite.trainer.device import device

        run = load_run(Path(config.run).expanduser(), checkpoint=config.checkpoint, allowed=allowed)
        if run.run.stage.gives_rewards:
            raise ModelError(
                f"{config.run} is a reward model: it scores answers and cannot talk; export it, or rank with it."
            )
        kind = device(run.run.trainer)
        limit = measured(run.model, run.tokenizer, []).length
        # A frozen base in bf16 and an adapter in fp32 fit together under the run's own compute type only.
        computing = partial(run.dtypes.autocast, kind)
        return Partner(run.model.to(kind), run.tokenizer, run.template, limit, computing)
    found = _load_model(str(config.model), allowed)
    model = found.model.to("cuda" if torch.cuda.is_available() else "cpu")
    return Partner(model, found.tokenizer, load_template(None, found.tokenizer), found.length)


def _load_model(name: str, allowed: Allowed) -> Any:
    """An option of `model`, else a folder or hub id. Raises ModelError where it is none of them."""
    import torch

    from fulgurite.config.compose import compose
    from fulgurite.config.overrides import quote_verbatim
    from fulgurite.config.run import load_options
    from fulgurite.config.schema import build, list_options

    load_options()
    known = list_options("model")
    if name in known and name != "hf":
        return build(compose([f"model={name}"]).run.model, torch.float32)
    if "/" not in name and not Path(name).exists():
        near = suggest_similar(name, known)
        names = ", ".join(n for n in known if n != "hf")
        raise ModelError(f"model={name} is neither a folder nor one of {names}.{near}")
    words = [
        "model=hf",
        f"model.path={quote_verbatim(name)}",
        f"model.trust_remote_code={str(allowed.model_code).lower()}",
    ]
    words += [f"model.revision={quote_verbatim(allowed.revision)}"] if allowed.revision else []
    return build(compose(words).run.model, torch.float32)
