"""Runs code that is not ours (reward functions, plugins): whatever it raises becomes one of our errors, or an
interrupt.

Such code may call `sys.exit`, and a run that failed must not end with its exit status. It may also never return: while
`is_interruptible()` holds, the first Ctrl-C raises at once instead of waiting for the end of the optimizer step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from fulgurite.errors import FulguriteError, Interrupted, is_shortage
from fulgurite.language.library_errors import quote_foreign
from fulgurite.language.message import UserMessage, message

LONGEST = 200
"""Characters of a foreign message that an error line repeats."""

_running = 0


def is_interruptible() -> bool:
    """Whether code runs that may take any time, at a point where the run can be left."""
    return _running > 0


@contextlib.contextmanager
def allow_interrupt() -> Iterator[None]:
    """Let the first signal raise Interrupted at once inside the block."""
    global _running
    _running += 1
    try:
        yield
    finally:
        _running -= 1


@contextlib.contextmanager
def run_foreign(refuse: Callable[[UserMessage], FulguriteError]) -> Iterator[None]:
    """Run a block of foreign code. Raises `refuse(<class: message>)` for whatever it raises, SystemExit included.

    KeyboardInterrupt becomes Interrupted. Our own errors, and memory that ran out, pass as they are.
    """
    try:
        yield
    except (FulguriteError, Interrupted):
        raise
    except KeyboardInterrupt as error:
        raise Interrupted("Interrupted by Ctrl-C (KeyboardInterrupt); earlier checkpoints are whole.") from error
    except SystemExit as error:
        code = "" if error.code is None else repr(error.code)[:LONGEST]
        raise refuse(message("it called sys.exit({code})", code=code)) from error
    except BaseException as error:
        if is_shortage(error):
            raise
        raise refuse(quote_foreign(describe_error(error), LONGEST + 100)) from error


def describe_error(error: BaseException) -> str:
    """The class and the message of an exception on one line."""
    try:
        text = " ".join(str(error).split())[:LONGEST]
    except Exception:  # its own __str__ fails
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
