"""How a command ends that does not come to its end: one error line and an exit status, for every exception."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TextIO

from fulgurite.errors import FulguriteError, Interrupted, TrainingFailed, is_shortage
from fulgurite.foreign_code import describe_error
from fulgurite.language.library_errors import quote_foreign, translate_error
from fulgurite.language.message import UserMessage, message
from fulgurite.text.console import rank, say_error

HOME = Path(__file__).resolve().parents[1]
"""The package: frames in it are ours."""
LOST = (
    "Connection closed by "
    "peer", "Connection reset by peer", "Broken pipe", "Timed out waiting", "Socket Timeout", "Connection refused",
    "recvValue failed", "sendBytes failed", "timed out after",
)
"""What gloo and its store say if another process of the run is gone, or does not answer."""
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


@dataclass(frozen=True, slots=True)
class Ending:
    """The exit status and the error line of a command; `lost` if another process of the run caused it and reports
    the reason."""

    status: int
    line: str
    lost: bool = False


@contextlib.contextmanager
def raise_on_signals() -> Iterator[None]:
    """Raise Interrupted for SIGTERM and its kin inside the block, as Python does for Ctrl-C. Training has handlers
    of its own."""
    # Python sets signal handlers in the main thread only
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    # a handler of the program that calls us stays, as does SIG_IGN of nohup
    ours = [number for number, handler in before.items() if handler is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, _raise)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])


def _raise(number: int, frame: FrameType | None) -> None:
    raise Interrupted(
        "Stopped by {name} outside of the training steps; earlier checkpoints are complete.", number,
        name=signal.Signals(number).name,
    )


def end(error: BaseException, debug: bool) -> int:
    """Print the one line of an error, with the traceback before it if `debug`, and return the exit status.

    One of several processes hands its line to its launcher instead, which prints one for all of them.
    """
    found = describe_ending(error)
    if debug:
        traceback.print_exception(error)
    if not found.line:
        return found.status
    if "RANK" in os.environ:
        from fulgurite.train.rank_process import RankReport, report

        if report(RankReport(found.status, found.line, found.lost)):
            return found.status
    # started by another launcher: one line, not one a process
    if rank() == 0 or (found.status == TrainingFailed.exit_status and not found.lost):
        # the reader of both streams may have left, as in `2>&1 | head`
        with contextlib.suppress(BrokenPipeError):
            say_error(found.line)
    return found.status


def describe_ending(error: BaseException) -> Ending:
    """The exit status and the line for any exception: 2 for a wrong request, 3 for a failure, 130 and 143 for an
    interrupt."""
    if isinstance(error, FulguriteError | Interrupted):
        return Ending(error.exit_status, str(error))
    # before SystemExit: Lightning turns Ctrl-C into one
    if isinstance(error, KeyboardInterrupt) or _was_interrupted(error):
        line = message("Interrupted outside of the training steps; earlier checkpoints are complete.")
        return Ending(Interrupted.STATUSES[0], str(line))
    if isinstance(error, SystemExit):
        return _left(error)
    if is_shortage(error):
        text = translate_error(error, 160) if str(error) else quote_foreign(type(error).__name__)
        short = message("Out of memory ({text}). Close other programs, or take a smaller model.", text=text)
        return Ending(TrainingFailed.exit_status, str(short))
    if "RANK" in os.environ and _is_lost(error):
        gone = message("The connection to another process of this run was lost; that process reports the reason.")
        return Ending(TrainingFailed.exit_status, str(gone), lost=True)
    if isinstance(error, OSError):  # a file or a pipe that nobody expected to refuse
        text = translate_error(error, 300) if str(error) else quote_foreign(type(error).__name__)
        refused = message("{text} (at {place}). --debug shows the traceback.", text=text, place=find_place(error))
        return Ending(2, str(refused))
    unexpected = message(
        "Unexpected {error} (at {place}). This is a bug of fulgurite: no exception should reach this place. --debug "
        "shows the traceback.", error=_last_line(error), place=find_place(error),
    )
    return Ending(TrainingFailed.exit_status, str(unexpected))


def find_place(error: BaseException) -> str | UserMessage:
    """`fulgurite/stage/policy.py:123`, the innermost frame of ours; the innermost of all if none is ours."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(HOME)]
    if own:
        return f"{Path(own[-1].filename).relative_to(HOME.parent)}:{own[-1].lineno}"
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else message("an unknown place")


def _last_line(error: BaseException) -> str:
    """The class and message; of an error that a worker process has sent with its traceback, the last line of that."""
    try:
        lines = str(error).strip().splitlines()
    except Exception:  # its own __str__ fails
        lines = []
    if len(lines) > 2 and any(line.startswith(("Original Traceback", "Traceback (most recent")) for line in lines):
        return lines[-1].strip()[:300]
    return describe_error(error)


def _was_interrupted(error: BaseException) -> bool:
    """Whether this is Lightning's `sys.exit(1)` in answer to a KeyboardInterrupt."""
    return isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt)


def _left(error: SystemExit) -> Ending:
    """`--help` of a command leaves with 0; a call of sys.exit in code that is not ours is a failure, whatever its
    status."""
    frames = traceback.extract_tb(error.__traceback__)
    if error.code in (0, None) and frames and Path(frames[-1].filename).is_relative_to(HOME):
        return Ending(0, "")
    code = "" if error.code is None else repr(error.code)[:200]
    place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else message("an unknown place")
    left = message(
        "The command was ended by sys.exit({code}) at {place}; --debug shows the traceback.", code=code, place=place
    )
    return Ending(TrainingFailed.exit_status, str(left))


def _is_lost(error: BaseException) -> bool:
    """Whether one of several processes has lost another one."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return isinstance(error, RuntimeError) and ("DistError" in names or any(words in str(error) for words in LOST))


def flush_output() -> None:
    """Flush stdout and stderr, and discard what a reader that has left, as `| head` does, was to get."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            discard_output(stream)
        except (ValueError, AttributeError):  # closed, or pythonw's None
            continue


def discard_output(stream: TextIO | None = None) -> None:
    """Send further output of a stream, stdout if none is given, nowhere: its reader has left, as `| head` does."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError, ValueError):
        # the descriptor and not the stream: what is still in its buffer is written when Python ends
        os.dup2(nowhere, (stream or sys.stdout).fileno())
    os.close(nowhere)
