"""The commands that the board has started: training, searches, exports. Their records survive the board itself.

A command is a process group of its own. The board's end leaves it alone, and the next board finds it by its record.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from fulgurite.board.http_error import HttpError
from fulgurite.board.processes import is_same, read_birth, signal_group
from fulgurite.errors import RequestError
from fulgurite.files.atomic import PRIVATE_FILE, PRIVATE_FOLDER, write_file
from fulgurite.files.json import read_object
from fulgurite.language.current import VARIABLE, get_language
from fulgurite.language.library_errors import translate_system_error
from fulgurite.language.message import message
from fulgurite.text.console import escape_lines, read_error

KEEPER = Path(__file__).with_name("keep_exit.py")
COMMAND = (sys.executable, "-m", "fulgurite")
PASSWORD = "FULGURITE_BOARD_PASSWORD"
"""Of the environment of the board alone."""
DEADLINE = 10.0
"""Seconds after the first request to stop from which on the next one is SIGTERM, which leaves at once."""
WAIT_EVERY = 0.05
SHOWN, SHOWN_BYTES = 40, 16_384
"""Lines and bytes of the end of a log that the page shows."""
MOST_RECORDS = 200
"""Records that are kept; those of the oldest commands that have ended are removed."""
TRAINS = ("train", "resume", "sweep")
"""The kinds that use the device for long."""


@dataclass(slots=True)
class LaunchRecord:
    """A command that was started; `folder` is that of its run, its search, or its export."""

    id: str
    kind: str
    words: list[str]
    folder: str
    started: float
    language: str = "en"
    pid: int = 0
    birth: str | None = None
    stops: list[float] = field(default_factory=list)
    """When it was asked to stop."""

    @property
    def command(self) -> str:
        """The command line, without the folder that the board has chosen."""
        chosen = ("run_dir=",) if self.kind in ("train", "sweep") else ()
        words = [word for word in self.words if not word.startswith(chosen)]
        return shlex.join(["fulgurite", *words])


class Launches:
    """Starts commands and keeps their records in a private folder. Methods can be called from several threads."""

    def __init__(self, folder: Path, base: Path, command: Sequence[str] = COMMAND) -> None:
        self._folder, self._base, self._command = folder, base, tuple(command)
        self._lock = threading.RLock()
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._ended: set[str] = set()
        """The ids of commands that have ended, which need not be looked for again."""
        self._records = {record.id: record for record in _read_records(folder)}

    def start(self, kind: str, words: Sequence[str], folder: Path) -> LaunchRecord:
        """Starts `fulgurite <words>` in the language in use. Raises RequestError if the disk or the system refuses."""
        with self._lock:
            record = LaunchRecord(
                secrets.token_hex(8), kind, list(words), str(folder), time.time(), get_language()
            )
            try:
                self._folder.mkdir(PRIVATE_FOLDER, parents=True, exist_ok=True)
                self._write(record)  # before the process: a full disk must not leave one that nobody knows
                child = self._spawn(record)
            except OSError as error:
                with contextlib.suppress(OSError):
                    self._place(record.id, "json").unlink()
                raise RequestError(
                    "The command cannot be started: {path}: {reason}. Free some space, or set FULGURITE_CACHE to a "
                    "folder that can be written.",
                    path=error.filename or self._folder, reason=translate_system_error(error),
                ) from error
            # Written again with the process; if the disk is full now, only the next board cannot find the command.
            record.pid, record.birth = child.pid, read_birth(child.pid)
            self._children[record.id], self._records[record.id] = child, record
            threading.Thread(target=_wait_for_end, args=(child, folder), daemon=True).start()
            with contextlib.suppress(OSError):
                self._write(record)
            self._remove_oldest()
            return record

    def _spawn(self, record: LaunchRecord) -> subprocess.Popen[bytes]:
        environment = {name: value for name, value in os.environ.items() if name != PASSWORD}
        environment |= {VARIABLE: record.language, "PYTHONUNBUFFERED": "1"}
        # -I -S: the keeper needs the standard library alone, and starts faster without site-packages
        keeper = [sys.executable, "-I", "-S", str(KEEPER), str(self._place(record.id, "exit"))]
        log = os.open(self._place(record.id, "log"), os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
        try:
            return subprocess.Popen(
                [*keeper, *self._command, *record.words], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=self._base, env=environment, start_new_session=True,
            )
        finally:
            os.close(log)

    def list_records(self) -> list[LaunchRecord]:
        """Returns the records, the newest first."""
        with self._lock:
            return sorted(self._records.values(), key=lambda record: record.started, reverse=True)

    def list_alive(self) -> list[LaunchRecord]:
        """Returns the records of the commands that are running, the newest first."""
        return [record for record in self.list_records() if self.is_alive(record)]

    def find(self, launch_id: str) -> LaunchRecord:
        """Returns a record by its id. Raises HttpError if there is none."""
        with self._lock:
            if launch_id not in self._records:
                raise HttpError(404, message("The board has started no such command."))
            return self._records[launch_id]

    def find_running(self, folder: Path) -> LaunchRecord | None:
        """Returns the command that is running in a folder, or in a folder above it, as a search does."""
        places = {str(folder), str(folder.parent)}
        return next((r for r in self.list_alive() if r.folder in places), None)

    def find_training(self) -> LaunchRecord | None:
        """Returns a command of this board that trains now."""
        return next((r for r in self.list_alive() if r.kind in TRAINS), None)

    def is_alive(self, record: LaunchRecord) -> bool:
        """Returns whether the process of a record is running; its id alone may be another's by now."""
        if record.id in self._ended:
            return False
        child = self._children.get(record.id)
        alive = child.poll() is None if child is not None else is_same(record.pid, record.birth)
        if not alive and record.pid:  # without an id it is about to be started
            self._ended.add(record.id)
        return alive

    def wait_for_end(self, record: LaunchRecord, seconds: float) -> bool:
        """Waits until a command has ended, at most so long; returns whether it has."""
        end = time.monotonic() + seconds
        while self.is_alive(record):
            if time.monotonic() > end:
                return False
            time.sleep(WAIT_EVERY)
        return True

    def read_exit(self, record: LaunchRecord) -> int | None:
        """Returns the exit status, None if it is not known or not there yet."""
        try:
            return _to_shell_status(int(self._place(record.id, "exit").read_text(encoding="ascii")))
        except (OSError, ValueError):
            return None

    def read_output(self, record: LaunchRecord) -> str:
        """Returns the last lines that the command printed, with control characters replaced."""
        try:
            with self._place(record.id, "log").open("rb") as stream:
                stream.seek(max(0, stream.seek(0, os.SEEK_END) - SHOWN_BYTES))
                text = stream.read().decode("utf-8", errors="replace")
        except OSError:
            return ""
        # a progress bar overwrites its line after each \r: its last state is shown
        lines = [line.rpartition("\r")[2] for line in text.replace("\r\n", "\n").split("\n")]
        return escape_lines("\n".join(lines[-SHOWN:]).strip("\n"))

    def stop(self, record: LaunchRecord) -> None:
        """Asks a command to save and leave, as Ctrl-C does; after the deadline once more, to leave at once.

        Raises RequestError if it has ended.
        """
        with self._lock:
            number = choose_signal(record.stops, time.time())
            if not self.is_alive(record):
                raise RequestError("This run has ended already.")
            if number is None or not signal_group(record.pid, record.birth, number):
                return
            record.stops.append(time.time())
            with contextlib.suppress(OSError):
                self._write(record)

    def describe(self, record: LaunchRecord, began: bool) -> dict[str, Any]:
        """Returns the answer for the page; `began` is whether its run has reached its folder."""
        alive, code = self.is_alive(record), self.read_exit(record)
        output = self.read_output(record)
        state = "ended" if not alive else "running" if began else "starting"
        errors = [text for line in output.splitlines() if (text := read_error(line)) is not None]
        return {
            "id": record.id, "kind": record.kind, "command": record.command, "state": state,
            "exit": code if state == "ended" else None, "output": output, "started": record.started,
            "error": "\n".join(errors) if state == "ended" and code != 0 else "",
            "stopping": alive and bool(record.stops),
        }

    def _place(self, launch_id: str, kind: str) -> Path:
        return self._folder / f"{launch_id}.{kind}"

    def _write(self, record: LaunchRecord) -> None:
        write_file(self._place(record.id, "json"), json.dumps(asdict(record)) + "\n")

    def _remove_oldest(self) -> None:
        ended = [record for record in self.list_records()[MOST_RECORDS:] if not self.is_alive(record)]
        for record in ended:
            del self._records[record.id]
            self._children.pop(record.id, None)
            for kind in ("json", "log", "exit"):
                with contextlib.suppress(OSError):
                    self._place(record.id, kind).unlink()


def _wait_for_end(child: subprocess.Popen[bytes], folder: Path) -> None:
    """Waits for a command, and removes the folder of a run that never began, and its date's if it is empty."""
    child.wait()
    with contextlib.suppress(OSError):  # one of them is not empty
        for place in (folder, folder.parent):
            place.rmdir()


def choose_signal(stops: Sequence[float], now: float) -> signal.Signals | None:
    """Returns the signal for another request to stop; None if the one before still has time."""
    if not stops:
        return signal.SIGINT
    return signal.SIGTERM if now - stops[-1] >= DEADLINE else None


def _to_shell_status(code: int) -> int:
    """Returns an exit status as a shell reports it: 128 and the number of the signal that killed the command."""
    return 128 - code if code < 0 else code


def _read_records(folder: Path) -> list[LaunchRecord]:
    """Returns the records in a folder; a damaged one is left out."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(_read_record(path.stem, read_object(path)))
        except (OSError, ValueError, TypeError, KeyError):
            continue
    return found


def _read_record(launch_id: str, stored: Mapping[str, Any]) -> LaunchRecord:
    names = {item.name for item in fields(LaunchRecord)}
    record = LaunchRecord(**{name: value for name, value in stored.items() if name in names})
    right = record.id == launch_id and isinstance(record.pid, int) and isinstance(record.started, int | float)
    if not right or not all(isinstance(word, str) for word in [record.kind, record.folder, *record.words]):
        raise ValueError(launch_id)
    return record
