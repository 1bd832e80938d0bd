"""The command `fulgurite`: picks the subcommand, and turns errors into one line and an exit status. Imports nothing
heavy."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from fulgurite import __version__
from fulgurite.cli.ending import discard_output, end, flush_output, raise_on_signals
from fulgurite.cli.flags import prints_only
from fulgurite.cli.help import asks
from fulgurite.cli.parser import build_parser, parse
from fulgurite.errors import ConfigError, join_or
from fulgurite.language.current import LANGUAGES, VARIABLE, detect_language, get_language, set_language
from fulgurite.text.console import guard_output


def _train(words: list[str]) -> int:
    if asks(words):
        named = [word for word in words if not word.startswith("-") and word != "help"]
        if named:  # `train -h optim` is the page of `explain`
            return max(_explain([word]) for word in named)
        print(build_parser()[1]["train"].format_help(), end="")
        return 0
    from fulgurite.cli.train import train_main

    return train_main(words)


def _plan(words: list[str]) -> int:
    from fulgurite.cli.plan import plan_main

    return plan_main(words)


def _explain(words: list[str]) -> int:
    from fulgurite.cli.explain import explain_main

    return explain_main(words, _find_troubles)


def _find_troubles(words: list[str]) -> Sequence[Any]:
    """Returns what the rules of `plan` find: imports Hydra, which a page without a value does not need."""
    from fulgurite.plan.value_check import find_value_troubles

    return find_value_troubles(words)


def _chat(words: list[str]) -> int:
    from fulgurite.cli.command_words import check_command_words
    from fulgurite.config.chat_arguments import ChatConfig

    check_command_words("chat", ChatConfig, words)
    given = parse("chat", words)
    from fulgurite.serve.chat import chat_main

    return chat_main(given.words)


def _export(words: list[str]) -> int:
    from fulgurite.cli.command_words import check_command_words
    from fulgurite.config.export_arguments import Export, read

    check_command_words("export", Export, words)
    given = parse("export", words)
    read(given.words)  # refuses wrong words before torch is loaded
    from fulgurite.export.model import export_main

    return export_main(given.words)


def _average(words: list[str]) -> int:
    from fulgurite.cli.command_words import check_command_words
    from fulgurite.config.average_arguments import Average, read

    check_command_words("average", Average, words)
    given = parse("average", words)
    read(given.words)  # refuses wrong words before torch is loaded
    from fulgurite.evaluate.average import average_main

    return average_main(given.words)


def _eval(words: list[str]) -> int:
    from fulgurite.cli.command_words import check_command_words
    from fulgurite.config.eval_arguments import EvalSettings, read

    flags = [word for word in words if word in ("--json", "-h", "--help")]
    check_command_words("eval", EvalSettings, [word for word in words if word not in flags])
    given = parse("eval", words)
    read(given.words)  # refuses wrong words before torch is loaded
    from fulgurite.evaluate.command import eval_main

    return eval_main(given.words, given.json)


def _serve(words: list[str]) -> int:
    from fulgurite.cli.command_words import check_command_words
    from fulgurite.config.serve_arguments import Serve

    check_command_words("serve", Serve, words)
    given = parse("serve", words)
    from fulgurite.serve.server import serve_main

    return serve_main(given.words)


def _convert(words: list[str]) -> int:
    from fulgurite.cli.convert import convert_main

    return convert_main(words)


def _runs(words: list[str]) -> int:
    from fulgurite.cli.runs import runs_main

    return runs_main(words)


def _board(words: list[str]) -> int:
    from fulgurite.cli.board import board_main

    return board_main(words)


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": _train, "plan": _plan, "explain": _explain, "chat": _chat, "eval": _eval, "export": _export,
    "average": _average, "serve": _serve, "convert": _convert, "runs": _runs, "board": _board,
}


def main(words: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit status: 0 done, 2 wrong request, 3 failed, 130 Ctrl-C, 143 SIGTERM."""
    given = list(sys.argv[1:] if words is None else words)
    debug = "--debug" in given
    given = [w for w in given if w != "--debug"]
    before = get_language(), os.environ.get(VARIABLE)
    try:
        given = _set_language(given)
        with raise_on_signals():
            if "RANK" in os.environ:
                from fulgurite.train.rank_process import follow_launcher, quiet_torch

                quiet_torch()
                follow_launcher()
            return _run(given)
    except BrokenPipeError as error:
        discard_output()
        # a reader that leaves early has what it wanted; a training that ends with it has failed
        trains = given[:1] == ["train"] and not (asks(given) or prints_only(given))
        return end(error, debug) if trains else 0
    except BaseException as error:  # whatever it is, it is one line and a status
        return end(error, debug)
    finally:
        # before Python exits, which would print a traceback for a reader that has left
        flush_output()
        # a notebook that calls a command keeps its own language
        set_language(before[0])
        if before[1] is None:
            os.environ.pop(VARIABLE, None)


def _set_language(words: list[str]) -> list[str]:
    """Sets the language by `--lang`, else by the environment, and returns the words without the flag.

    `explain` keeps its own flag: its JSON is English unless it asks for another language.
    """
    asked = next((n for n, word in enumerate(words) if word == "--lang" or word.startswith("--lang=")), None)
    if asked is None:
        set_language(detect_language(os.environ))
        return words
    value = words[asked].partition("=")[2] or "".join(words[asked + 1 : asked + 2])
    if value not in LANGUAGES:
        raise ConfigError("--lang takes {known}.", known=join_or(LANGUAGES))
    set_language(value, inherit=True)
    if words[0] == "explain":
        return words
    return words[:asked] + words[asked + (1 if "=" in words[asked] else 2) :]


def _run(given: list[str]) -> int:
    if given[:1] == ["help"] and len(given) > 1:  # `help train optim` is `train optim --help`
        given = [*given[1:], "--help"]
    if not given or given[0] in {"-h", "--help", "help"}:
        print(build_parser()[0].format_help(), end="")
        return 0
    if given[0] == "--version":
        print(__version__)
        return 0
    command, rest = given[0], given[1:]
    # transformers, peft and gguf draw bars of their own over ours; tqdm reads this when it is imported
    os.environ.setdefault("TQDM_DISABLE", "1")
    guard_output()
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("fulgurite").setLevel(logging.INFO)
    if command in {"-sc", "--shell-completion"}:
        from fulgurite.cli.completion import completion_main

        return completion_main(rest, COMMANDS)
    if command not in COMMANDS:
        from fulgurite.cli.command_words import explain_command

        raise explain_command(command, rest, list(COMMANDS))
    try:
        return COMMANDS[command](rest)
    except SystemExit as left:  # argparse leaves after it has printed its help
        if asks(rest) and not left.code:
            return 0
        raise
