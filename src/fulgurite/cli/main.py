"""The command `fulgurite`: picks the subcommand, and turns errors into one line and an exit status. Imports nothing heavy."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence

from fulgurite import __version__
from fulgurite.errors import FulguriteError, TrainingFailed, did_you_mean, is_shortage
from fulgurite.say import guard_output, rank, say_error

LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")
"""What gloo says where another process of the run is gone."""

HELP = f"""fulgurite {__version__}: fine-tuning in which every knob explains itself

  fulgurite train [GROUP=OPTION] [KNOB=VALUE] ...   fine-tune; without words: LoRA on a bundled model and data set, on a CPU
  fulgurite train -m optim.lr=1e-4,1e-3             one run for each value
  fulgurite train resume.run=RUN                    go on with a run that was stopped
  fulgurite plan [GROUP=OPTION] [KNOB=VALUE] ...    what `train` with these words would do, cost and get wrong; loads no weights
  fulgurite plan --rules                            the rules that look at a run before it begins
  fulgurite explain [KNOB|GROUP|GROUP=OPTION]       what it does, what to set it to, why, and who says so
  fulgurite explain --search WORD                   the knobs that speak of a word
  fulgurite chat run=RUN                            talk with what was trained
  fulgurite export run=RUN out=FOLDER               a folder that plain transformers loads
  fulgurite runs                                    list and compare what has been run

Begin with `fulgurite train`, then `fulgurite explain optim.lr`.
Errors are one line (exit 2); failed training says why (exit 3); Ctrl-C saves first (exit 130). --debug shows tracebacks."""


def _train(words: list[str]) -> int:
    from fulgurite.cli.train import train_main

    return train_main(words)


def _plan(words: list[str]) -> int:
    from fulgurite.plan.command import plan_main

    return plan_main(words)


def _explain(words: list[str]) -> int:
    from fulgurite.explain import explain_main

    return explain_main(words)


def _chat(words: list[str]) -> int:
    from fulgurite.chat import chat_main

    return chat_main(words)


def _export(words: list[str]) -> int:
    from fulgurite.export import export_main

    return export_main(words)


def _runs(words: list[str]) -> int:
    from fulgurite.runs import runs_main

    return runs_main(words)


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": _train, "plan": _plan, "explain": _explain, "chat": _chat, "export": _export, "runs": _runs,
}


def main(words: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit status (design: 0 done, 2 wrong request, 3 failed training, 130 interrupted)."""
    given = list(sys.argv[1:] if words is None else words)
    debug = "--debug" in given
    given = [w for w in given if w != "--debug"]
    if not given or given[0] in {"-h", "--help", "help"}:
        print(HELP)
        return 0
    if given[0] == "--version":
        print(__version__)
        return 0
    command, rest = given[0], given[1:]
    guard_output()
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("fulgurite").setLevel(logging.INFO)
    try:
        if command in {"-sc", "--shell-completion"}:
            from fulgurite.cli.completion import completion_main

            return completion_main(rest, COMMANDS)
        if command not in COMMANDS:
            say_error(f"There is no command {command}.{did_you_mean(command, COMMANDS)} `fulgurite --help` lists them.")
            return 2
        return COMMANDS[command](rest)
    except FulguriteError as error:
        if debug:
            raise
        if rank() == 0 or error.exit_status == TrainingFailed.exit_status:  # one line, not one a process
            say_error(error)
        return error.exit_status
    except KeyboardInterrupt:
        say_error("Interrupted before anything was to be saved.")
        return 130
    except BrokenPipeError:  # the reader of our output has left, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (MemoryError, RuntimeError, OSError) as error:
        if not debug and _lost(error):
            if rank() == 0:
                say_error("The connection to another process of this run is gone: that process says why.")
            return 1  # not 3: the launcher takes the status of the one that knows
        if debug or not (is_shortage(error) or isinstance(error, OSError)):
            raise
        said = " ".join(str(error).split())[:160] or "no more was said"
        if is_shortage(error):
            say_error(f"Out of memory ({said}). Close other programs, or take a smaller model.")
            return TrainingFailed.exit_status
        say_error(f"{said}. --debug shows where.")  # a file or a pipe that nobody expected to refuse
        return 2


def _lost(error: BaseException) -> bool:
    """Whether one of several processes has lost another one."""
    return "RANK" in os.environ and isinstance(error, RuntimeError) and any(words in str(error) for words in LOST)
