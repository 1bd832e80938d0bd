"""`fulgurite chat`: a conversation with a run or a model, in the chat format of its training. Loads torch late."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from fulgurite.config.arguments import parse
from fulgurite.config.chat_arguments import ChatConfig
from fulgurite.config.guard import Allowed, split_allowed
from fulgurite.config.paths import check_run_folder, is_missing_path
from fulgurite.errors import ConfigError, DataError, Interrupted, ModelError, suggest_similar
from fulgurite.language.message import UserMessage, message
from fulgurite.serve.toolbox import Toolbox, load_toolbox
from fulgurite.text.console import escape, say

COMMANDS = ("help", "reset", "system", "tools", "quit")
HELP = message(
    "/reset         begins a new conversation\n"
    "/system TEXT   begins one with this system message, or without any\n"
    "/tools         lists the functions that the model may call\n"
    "/quit          ends the chat; so does Ctrl-D\n"
    "Ctrl-C         stops an answer"
)


@dataclass(slots=True)
class Partner:
    """A loaded model; `limit` is its longest input in tokens."""

    model: Any
    tokenizer: Any
    template: Any
    limit: int
    context: Callable[[], AbstractContextManager[Any]] = nullcontext


def chat_main(words: Sequence[str]) -> int:
    """Runs `fulgurite chat run=...`. Returns the exit status; raises ConfigError or ModelError for a wrong request."""
    allowed, words = split_allowed(words)
    config = read(words)
    if sys.stdin.isatty():
        say(message("Loading ..."))
    toolbox = load_toolbox(config.tools)
    partner = load_partner(config, allowed)
    return ChatSession(partner, config, sys.stdout, toolbox).hold(sys.stdin)


def read(words: Sequence[str]) -> ChatConfig:
    """Reads `parameter=value` words. Raises ConfigError."""
    config = parse(ChatConfig, words, "chat")
    if config.checkpoint not in ("best", "last") and not config.checkpoint.startswith("step-"):
        raise ConfigError(
            "checkpoint={checkpoint} is not valid; use best, last or step-N.", checkpoint=config.checkpoint
        )
    if (config.run is None) == (config.model is None):
        raise ConfigError("fulgurite chat needs run=<run folder> or model=<folder or option>, and not both.")
    if (
        config.model is not None
        and (Path(config.model) / "checkpoints").is_dir()
        and (Path(config.model) / "provenance.json").is_file()
    ):
        raise ConfigError("model={model} is a run folder; write fulgurite chat run={model}.", model=config.model)
    if config.run is not None:
        check_run_folder(config.run, "run")
    elif config.model is not None and is_missing_path(config.model):
        raise ModelError("model={path} does not exist; give a folder, a hub id or an option.", path=config.model)
    return config


def make_room(partner: Partner, turns: list[Any], build: Callable[[], list[Any]]) -> tuple[bool, UserMessage]:
    """Drops the oldest of `turns`, in place, until the conversation that `build` makes of them leaves room for an
    answer.

    Returns whether the question fits, and a note about what was dropped or why it does not fit, else an empty one.
    """
    dropped = 0
    while (length := len(partner.template.encode_prompt(build()))) >= partner.limit - 1:
        if not turns:
            return False, message(
                "this question has {length} tokens, and the model can read at most {limit}; ask a shorter one",
                length=length, limit=partner.limit,
            )
        # A question with its answer, and with the calls and results between them.
        del turns[: next((n for n, turn in enumerate(turns) if n and turn.role == "user"), len(turns))]
        dropped += 1
    if not dropped:
        return True, UserMessage()
    return True, message(
        "the model can read at most {limit} tokens; dropped from the conversation: the oldest {dropped} turns",
        limit=partner.limit, dropped=dropped,
    )


class ChatSession:
    """One conversation, whose answers are written to `out` as they are generated."""

    def __init__(
        self, partner: Partner, config: ChatConfig, out: TextIO, toolbox: Toolbox | None = None
    ) -> None:
        self._partner, self._config, self._out = partner, config, out
        self._toolbox = toolbox or Toolbox()
        self._turns: list[Any] = []
        self._system = config.system
        self._answers = 0
        self._source: TextIO = sys.stdin

    def hold(self, source: TextIO) -> int:
        """Answers each line of `source` until its end or /quit. Shows a prompt on a terminal. Returns 0."""
        person, self._source = source.isatty(), source
        if person:
            self._write(f"{message('Type a message. /help lists the commands.')}\n")
        self._report_moved_system()
        if self._toolbox.tools and self._partner.template.call_form is None:
            self._note(message("calls in the form of this chat template cannot be read; they are shown as text"))
        while True:
            try:
                line = _ask(source)
            except KeyboardInterrupt:
                self._write("\n")
                continue
            if line is None:
                self._write("\n" if person else "")
                return 0
            if not (text := line.strip()):
                continue
            if text.startswith("/"):
                if not self.command(text):
                    return 0
            else:
                if not person:
                    self._write(f"> {escape(text)}\n")
                self.answer(text)

    def command(self, text: str) -> bool:
        """Runs a line with a slash; returns False to end the conversation."""
        name, _, rest = text[1:].partition(" ")
        if name in ("quit", "exit"):
            return False
        if name == "reset":
            self._turns.clear()
            self._note(message("a new conversation"))
        elif name == "system":
            self._system = rest.strip() or None
            self._turns.clear()
            if self._system:
                self._note(message("a new conversation with this system message"))
            else:
                self._note(message("a new conversation without a system message"))
            self._report_moved_system()
        elif name == "help":
            self._write(f"{HELP}\n")
        elif name == "tools":
            self._list_tools()
        else:
            self._note(message(
                "there is no command /{name}; /help lists the commands.{hint}",
                name=escape(name), hint=suggest_similar(name, COMMANDS),
            ))
        return True

    def _list_tools(self) -> None:
        if not self._toolbox.tools:
            self._note(message("no functions; give a file with tools=..."))
        for tool in self._toolbox.tools:
            function = tool["function"]
            about = " ".join(str(function.get("description") or "").split())
            self._write(escape(f"  {function['name']}: {about}" if about else f"  {function['name']}") + "\n")

    def answer(self, text: str) -> None:
        """Streams the answer to `text`, and remembers both, also if Ctrl-C stopped the answer.

        If the model calls functions, their results are given to it, and it goes on, up to `tool_rounds` times.
        """
        from fulgurite.data.example import Message

        said = [Message("user", text)]
        for left in reversed(range(self._config.tool_rounds + 1)):
            answered = self._generate(said)
            if answered is None:
                return
            if answered.tool_calls and left == 0:
                self._note(message("stopped after tool_rounds={limit}", limit=self._config.tool_rounds))
                answered = _write_as_text(answered)
            said.append(answered)
            if not answered.tool_calls:
                break
            results = self._find_results(answered.tool_calls)
            if results is None:
                self._note(message("stopped; the question and its calls are dropped"))
                return
            said += results
        self._turns += said

    def _generate(self, said: list[Any]) -> Any:
        """Streams one answer, and returns it as a message; None after a note if there is none."""
        from fulgurite.model.generate import generate
        from fulgurite.model.streaming import Stream

        try:
            if not self._make_room(said):
                return None
        except DataError as error:  # such as a template without a place for the results of functions
            self._note(error.message)
            return None
        partner, tools = self._partner, self._toolbox.tools
        stream = Stream(partner.tokenizer, self._out, partner.template.build_call_parser(tools) if tools else None)
        try:
            done = generate(
                partner.model, partner.tokenizer, partner.template, self._messages(said),
                max_new_tokens=self._config.max_new_tokens, temperature=self._config.temperature,
                top_p=self._config.top_p, streamer=stream, seed=self._seed(), context=partner.context(),
                length=partner.limit,
            )
            answer = partner.template.answer(done.raw if tools else done.text, tools)
            note = self._describe_cut(done.tokens) if not done.stopped else UserMessage()
        except ModelError as error:
            self._note(error.message)
            return None
        except KeyboardInterrupt:
            # A call before the interruption is not made: its text is a part of the answer.
            answer, note = partner.template.answer(stream.text), message("stopped")
        self._write(f" ({note})\n" if note else "\n")
        for damaged in stream.damaged:
            self._note(message("a call cannot be read: {reason}", reason=damaged.reason))
        self._answers += 1
        # Results name their call, and some templates write the name: Mistral's has nine letters and digits.
        calls = tuple({"id": f"call{self._answers:02d}{n:03d}"} | call for n, call in enumerate(answer.tool_calls))
        return replace(answer, tool_calls=calls)

    def _find_results(self, calls: Sequence[Any]) -> list[Any] | None:
        """Returns a message with the result of each call: of its function, or as the person types it; None if the
        person stops."""
        from fulgurite.data.example import Message

        results = []
        for call in calls:
            name = call["function"]["name"]
            prompt = f"  {escape(name)} = "
            try:
                result = self._toolbox.compute(name, call["function"]["arguments"])
                if result is None:
                    result = _ask(self._source, prompt)
                    computed = not self._source.isatty()
                else:
                    computed = True
            except (KeyboardInterrupt, Interrupted):
                self._write("\n")
                return None
            if result is None:
                return None
            result = result.strip()
            if computed:
                self._write(f"{prompt}{escape(result)}\n")
            results.append(Message("tool", result, name=name, call_id=call.get("id", "")))
        return results

    def _describe_cut(self, tokens: int) -> UserMessage:
        if tokens >= self._config.max_new_tokens:
            return message("cut at max_new_tokens={limit}", limit=self._config.max_new_tokens)
        return message("cut at the {limit} tokens that the model can read", limit=self._partner.limit)

    def _report_moved_system(self) -> None:
        """Reports that the system message becomes a part of the first question if the chat template has no place for
        it, as in training."""
        if self._system and not self._partner.template.dialect.system:
            self._note(message("the chat template has no system message; it is put before the first question"))

    def _make_room(self, said: list[Any]) -> bool:
        """Drops the oldest turns, with a note, until question and answer fit into the model's length. Returns False if
        the question alone, with its calls and results, is too long."""
        fits, note = make_room(self._partner, self._turns, lambda: self._messages(said))
        if note:
            self._note(note)
        return fits

    def _messages(self, said: list[Any]) -> Any:
        from fulgurite.data.example import Conversation, Message

        system = [Message("system", self._system)] if self._system else []
        return Conversation((*system, *self._turns, *said), self._toolbox.tools)

    def _seed(self) -> int | None:
        return None if self._config.seed is None else self._config.seed + self._answers

    def _note(self, sentence: UserMessage) -> None:
        self._write(f"({sentence})\n")

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def _write_as_text(answered: Any) -> Any:
    """Returns an answer whose calls are not made: as text, so that the conversation may go on after it."""
    from fulgurite.data.tool_calls import write_calls

    calls = write_calls(answered.tool_calls)
    return replace(answered, content=f"{answered.content}\n{calls}".strip(), tool_calls=())


def _ask(source: TextIO, prompt: str = "> ") -> str | None:
    """Returns one line, or None at the end. On a terminal `input` adds the line editing and history of readline."""
    if not source.isatty():
        return source.readline() or None
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401
    try:
        return input(prompt)
    except EOFError:
        return None


def load_partner(config: ChatConfig, allowed: Allowed) -> Partner:
    """Loads the run or the model of a conversation. Raises FulguriteError."""
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
                "{run} is a reward model, which scores answers and cannot write any; use it as a reward "
                "(stage.reward=[{run}]), or export it.",
                run=config.run,
            )
        kind = device(run.run.trainer)
        limit = measured(run.model, run.tokenizer, []).length
        # a frozen base in bf16 and an adapter in fp32 work together only under the run's own compute type
        computing = partial(run.dtypes.autocast, kind)
        return Partner(run.model.to(kind), run.tokenizer, run.template, limit, computing)
    found = _load_model(str(config.model), allowed)
    model = found.model.to("cuda" if torch.cuda.is_available() else "cpu")
    return Partner(model, found.tokenizer, load_template(None, found.tokenizer), found.length)


def _load_model(name: str, allowed: Allowed) -> Any:
    """Loads an option of `model`, a folder or a hub id. Raises ModelError if the name is none of them."""
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
        raise ModelError(
            "model={name} is neither a folder nor one of {names}.{hint}",
            name=name, names=names, hint=near,
        )
    words = [
        "model=hf",
        f"model.path={quote_verbatim(name)}",
        f"model.trust_remote_code={str(allowed.model_code).lower()}",
    ]
    words += [f"model.revision={quote_verbatim(allowed.revision)}"] if allowed.revision else []
    return build(compose(words).run.model, torch.float32)
