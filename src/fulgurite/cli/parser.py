"""The argparse tree of the command line: one parser for each command. Imports neither torch nor Hydra."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NoReturn

from fulgurite import __version__
from fulgurite.cli import help
from fulgurite.errors import RequestError, suggest_similar
from fulgurite.language.current import get_language
from fulgurite.language.library_errors import translate_argparse
from fulgurite.language.message import message

CFG = ("job", "hydra", "all")
INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
"""The values of Hydra's flags --cfg and --info."""


class CommandParser(argparse.ArgumentParser):
    """argparse whose complaints are one sentence of ours, and whose help may be a text of ours."""

    def __init__(self, prog: str, text: Callable[[], str] | None = None, **options: Any) -> None:
        super().__init__(prog, allow_abbrev=False, **options)
        self._text = text

    def format_help(self) -> str:
        """The text of ours, if there is one; on a terminal its lines are wrapped."""
        if self._text is None:
            return super().format_help()
        text = self._text()
        return f"{help.fit_help(text, shutil.get_terminal_size().columns) if sys.stdout.isatty() else text}\n"

    def error(self, message: str) -> NoReturn:
        """Raises RequestError."""
        raise RequestError(
            "{prog}: {complaint}; see `{line}`.",
            prog=self.prog, complaint=translate_argparse(message), line=f"{self.prog} --help",
        )

    @property
    def flags(self) -> list[str]:
        """The flags by their long names."""
        return [action.option_strings[-1] for action in self._actions if action.option_strings]


def build_parser() -> tuple[CommandParser, dict[str, CommandParser]]:
    """Returns the parser of `fulgurite`, and those of its commands by name, in the language in use."""
    return _build_parser(get_language())


@cache
def _build_parser(language: str) -> tuple[CommandParser, dict[str, CommandParser]]:
    root = CommandParser("fulgurite", text=help.describe_overview)
    root.add_argument("--version", action="version", version=__version__)
    tree = root.add_subparsers(dest="command", parser_class=CommandParser)
    for add in (
        _add_train, _add_plan, _add_explain, _add_chat, _add_eval, _add_export, _add_average, _add_serve, _add_convert,
        _add_runs, _add_board,
    ):
        add(tree)
    return root, dict(tree.choices)


def list_flags(command: str) -> tuple[frozenset[str], frozenset[str]]:
    """Returns the flags of a command that have no value, and those that take one."""
    actions = build_parser()[1][command]._actions
    switches = {flag for action in actions if action.nargs == 0 for flag in action.option_strings}
    return frozenset(switches), frozenset({flag for a in actions for flag in a.option_strings} - switches)


def parse(command: str, words: Sequence[str]) -> argparse.Namespace:
    """Parses the words of a command; flags and other words may be mixed. Raises RequestError."""
    parser = build_parser()[1][command]
    # intermixed: argparse would otherwise refuse words behind a flag that comes after other words
    given, rest = parser.parse_known_intermixed_args(list(words))
    for word in rest:
        if word.startswith("-"):
            flag = word.partition("=")[0]
            near = suggest_similar(flag, parser.flags)
            raise RequestError(
                "{prog} has no flag {flag}.{near} There are {flags}.",
                prog=parser.prog, flag=flag, near=near, flags=", ".join(parser.flags),
            )
    given.words = [*given.words, *rest]
    return given


def _read_port(value: str) -> int:
    # six digits are enough to see that it is too large, and int() refuses thousands of them
    if not (value.isascii() and value.isdecimal() and 0 < int(value[:6]) < 65536):
        raise argparse.ArgumentTypeError(
            str(message("{value} is not allowed: a number from 1 to 65535", value=value))
        )
    return int(value)


def _one_of(values: Sequence[str]) -> Callable[[str], str]:
    def check(value: str) -> str:
        if value not in values:
            raise argparse.ArgumentTypeError(
                str(message("{value} is not allowed: one of {values}", value=value, values=", ".join(values)))
            )
        return value

    return check


def _add_words(parser: CommandParser, text: str, metavar: str = "WORD") -> None:
    parser.add_argument("words", nargs="*", metavar=metavar, help=text)


def _add_train(tree: Any) -> None:
    """Hydra's flags that are safe and of use here, and no others.

    Left out: --experimental-rerun, which loads a pickle; --config-name and --config-path, which --config-dir with an
    experiment replaces; --run, which is the default.
    """
    parser = tree.add_parser("train", text=help.describe_train, add_help=False)
    _add_words(parser, "GROUP=OPTION and NAME=VALUE")
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("-c", "--cfg", type=_one_of(CFG))
    parser.add_argument("-p", "--package")
    parser.add_argument("-cd", "--config-dir")
    parser.add_argument("-i", "--info", type=_one_of(INFO))
    parser.add_argument("--hydra-help", action="store_true")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("-v", "--verbose", action="store_true")
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("-sc", "--shell-completion", action="store_true")


def _add_plan(tree: Any) -> None:
    parser = tree.add_parser("plan", description=str(message(
        "Prints what `fulgurite train` with the same words would do, its cost and its mistakes. No weights are loaded, "
        "and nothing is trained."
    )))
    _add_words(parser, str(message("GROUP=OPTION and NAME=VALUE, as for `fulgurite train`")))
    parser.add_argument(
        "--show", metavar="N",
        help=str(message("also print N training examples, with what is learned marked; or longest, or FILE:LINE")),
    )
    parser.add_argument("--json", action="store_true", help=str(message("JSON, for programs")))
    probe, rules = message("load the model, and time a few micro-batches"), message("every rule with its id and source")
    parser.add_argument("--probe", action="store_true", help=str(probe))
    parser.add_argument("--rules", action="store_true", help=str(rules))
    parser.add_argument("--config-dir", metavar="FOLDER", help=str(message("a folder of your own options")))


def _add_explain(tree: Any) -> None:
    from fulgurite.language.current import LANGUAGES

    parser = tree.add_parser("explain", description=str(message(
        "Prints what a parameter, a group or an option does, what to set it to, why, and the source."
    )))
    _add_words(parser, str(message("a parameter (optim.lr), a group (method), an option (method=lora)")))
    parser.add_argument("--search", metavar="WORD", help=str(message("the parameters and options about a word")))
    parser.add_argument("--json", action="store_true", help=str(message(
        "JSON, for programs: one entry for each parameter; all of them without words"
    )))
    parser.add_argument(
        "--plot",
        action="store_true",
        help=str(message(
            "draw a schedule: scheduler=cosine, with its parameters, optim.lr=... and trainer.max_steps=... if you "
            "like; or a preference loss: stage=dpo stage.loss=ipo, with stage.beta=... and others that it reads"
        )),
    )
    page = message("the whole guide as a page for a browser, which needs no network")
    language = message("the language; by default the terminal's (LC_ALL, LANG), and English for --json")
    parser.add_argument("--html", action="store_true", help=str(page))
    parser.add_argument("--lang", choices=LANGUAGES, help=str(language))


def _add_chat(tree: Any) -> None:
    _add_words(tree.add_parser("chat", text=help.describe_chat), "NAME=VALUE")


def _add_eval(tree: Any) -> None:
    parser = tree.add_parser("eval", text=help.describe_eval)
    _add_words(parser, "NAME=VALUE")
    parser.add_argument("--json", action="store_true")


def _add_export(tree: Any) -> None:
    _add_words(tree.add_parser("export", text=help.describe_export), "NAME=VALUE")


def _add_average(tree: Any) -> None:
    _add_words(tree.add_parser("average", text=help.describe_average), "NAME=VALUE")


def _add_serve(tree: Any) -> None:
    _add_words(tree.add_parser("serve", text=help.describe_serve), "NAME=VALUE")


def _add_convert(tree: Any) -> None:
    parser = tree.add_parser("convert", description=str(message(
        "Prints the words for a file of another trainer's settings, with a line for each of them: what it is here, or "
        "why it is not needed or not possible."
    )))
    _add_words(parser, str(message("llamafactory, axolotl or trl, and the file")), "WORD")
    derive = message("derive the values that the file lacks, in place of the other trainer's defaults")
    parser.add_argument("--no-defaults", action="store_true", help=str(derive))
    parser.add_argument("--json", action="store_true", help=str(message("JSON, for programs")))


def _add_runs(tree: Any) -> None:
    parser = tree.add_parser("runs", description=str(message(
        "Lists the runs under a folder and the parameters in which they differ."
    )))
    _add_words(parser, str(message("a folder, or dir=FOLDER; `runs` if none is given")), "FOLDER")
    parser.add_argument("--json", action="store_true", help=str(message("JSON, for programs")))


def _add_board(tree: Any) -> None:
    parser = tree.add_parser("board", description=str(message(
        "Serves a page for this machine's browser: choose data, model and parameters, see the plan, start a run and "
        "watch it, compare runs."
    )))
    folders = message("a folder with runs and data, which the page may read; the folder you are in if none is given")
    _add_words(parser, str(folders), "FOLDER")
    port = message("the port; the first free one from 7878 if none is given")
    parser.add_argument("--port", type=_read_port, help=str(port))
    host = message(
        "the address to listen at; one that other machines reach needs TLS files and a password in "
        "FULGURITE_BOARD_PASSWORD"
    )
    parser.add_argument("--host", default="127.0.0.1", help=str(host))
    parser.add_argument("--no-browser", action="store_true", help=str(message("print the address, open no browser")))
    lazy = message("load torch when the first plan is asked for; saves memory if you only look at runs")
    parser.add_argument("--lazy", action="store_true", help=str(lazy))
    code = message("let the page start runs whose words run code: plugins, trust_remote_code, a reward in a .py file")
    parser.add_argument("--allow-code", action="store_true", help=str(code))
    parser.add_argument("--tls-cert", metavar="FILE", help=str(message("the certificate, as PEM")))
    parser.add_argument("--tls-key", metavar="FILE", help=str(message("the key of the certificate, as PEM")))
