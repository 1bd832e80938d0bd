"""Limits of time and memory for foreign code: a chat template is a program that comes with a model."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TypeVar

from fulgurite.language.message import message

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

T = TypeVar("T")
AGAIN = 0.1
"""Seconds until the alarm is raised again: foreign code may have caught the first one."""
PAGE = 4096 if resource is None else resource.getpagesize()
STATM = Path("/proc/self/statm")


class LimitExceeded(Exception):
    """Foreign code took more time or memory than allowed."""


class _Alarm(BaseException):
    """Raised inside the foreign code. It is not an Exception, because Jinja catches those while it folds constants and
    tries again."""


def run_bounded(work: Callable[[], T], seconds: float, memory: int) -> T:
    """Returns the result of `work`. Raises LimitExceeded after `seconds`, or if it needs more than `memory` bytes.

    In the main thread a signal interrupts any loop, and on Linux the address space is limited. In another thread the
    alarm is raised between two steps of Python, so that a long call into C runs to its end. On other systems memory is
    not limited.
    """
    box = (
        _run_with_signal
        if threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")
        else _run_in_thread
    )
    try:
        return box(work, seconds, memory)
    except _Alarm:
        raise LimitExceeded(message("took longer than {seconds:g} seconds", seconds=seconds)) from None
    except MemoryError:
        raise LimitExceeded(message("needed more than {megabytes:,} MB of memory", megabytes=memory >> 20)) from None


def _run_with_signal(work: Callable[[], T], seconds: float, memory: int) -> T:
    # An alarm that arrives after the work has ended must not raise.
    armed = True

    def ring(number: int, frame: FrameType | None) -> None:
        if armed:
            raise _Alarm

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
    try:
        with _limit_memory(memory):
            return work()
    finally:
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _run_in_thread(work: Callable[[], T], seconds: float, memory: int) -> T:
    done, here = threading.Event(), ctypes.c_ulong(threading.get_ident())
    rings = ctypes.pythonapi.PyThreadState_SetAsyncExc

    def watch() -> None:
        if not done.wait(seconds):
            rings(here, ctypes.py_object(_Alarm))
            # Foreign code may catch an alarm, so it is raised until the work ends.
            while not done.wait(AGAIN):
                rings(here, ctypes.py_object(_Alarm))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        with _limit_memory(memory):
            return work()
    finally:
        done.set()
        watcher.join()
        # An alarm may have been raised but not have arrived yet: remove it.
        rings(here, None)


_lock = threading.Lock()
_boxes = 0
_before = (0, 0)


@contextlib.contextmanager
def _limit_memory(more: int) -> Iterator[None]:
    """Limits the address space of this process to `more` bytes beyond its current size.

    Several threads share the limit of the first one.
    """
    global _boxes, _before
    if resource is None or not STATM.is_file():
        yield
        return
    with _lock:
        _boxes += 1
        if _boxes == 1:
            _before = resource.getrlimit(resource.RLIMIT_AS)
            soft, hard = _before
            # The first number of statm is the size of the address space, in pages.
            limit = int(STATM.read_text().split()[0]) * PAGE + more
            # An existing limit is only ever lowered.
            if soft == resource.RLIM_INFINITY or limit < soft:
                resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        with _lock:
            _boxes -= 1
            if _boxes == 0:
                resource.setrlimit(resource.RLIMIT_AS, _before)
