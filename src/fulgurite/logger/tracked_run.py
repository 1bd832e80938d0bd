"""What a tracker gets when it is opened: the run's config, where it comes from, and what it is made from."""

from __future__ import annotations

import secrets
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fulgurite.files.atomic import write_file
from fulgurite.logger.config import RunTracker

GIT_SECONDS = 5
"""Longest wait for git, whose folder may be on a network."""


@dataclass(frozen=True, slots=True)
class RunInput:
    """A data set or a model that a run is made from."""

    kind: str
    """`dataset` or `model`."""
    name: str
    """The name of the artifact; the same for the same source."""
    facts: Mapping[str, Any]
    """What identifies it: paths, revision, hashes. Plain values."""
    files: tuple[Path, ...] = ()
    """Small files that describe it."""
    run: Path | None = None
    """The folder of the earlier run, if the input is one."""


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """The first argument after the option of what `Logger.builds` names."""

    folder: Path
    """The run's folder."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The value of each parameter under its path, such as `optim.lr`."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Origin and reason of each value, under the same paths."""
    summary: Mapping[str, Any] = field(default_factory=dict)
    """Numbers of steps and rows."""
    words: tuple[str, ...] = ()
    """The words of the command line."""
    inputs: tuple[RunInput, ...] = ()

    @property
    def name(self) -> str:
        """The run's name; without one, its folder's."""
        return str(self.settings.get("name") or self.folder.name)

    def describe(self, config: RunTracker) -> dict[str, Any]:
        """Returns the config of the run with its provenance, its inputs, and the origin that `config` asks for."""
        inputs = [{"kind": one.kind, "name": one.name, **one.facts} for one in self.inputs]
        return {
            **self.settings, "provenance": dict(self.provenance), "summary": dict(self.summary), "inputs": inputs,
            **find_origin(config, self.words),
        }


def find_origin(config: RunTracker, words: tuple[str, ...]) -> dict[str, str]:
    """Returns `git_commit` and `command`, as far as `config` asks for them and they are known."""
    commit = read_commit(Path.cwd()) if config.git_commit else ""
    command = shlex.join(("fulgurite", "train", *words)) if config.command_line else ""
    return {name: text for name, text in (("git_commit", commit), ("command", command)) if text}


def read_commit(folder: Path) -> str:
    """Returns the hash of the commit that is checked out in a folder, with `-dirty` if tracked files are changed; empty
    without git or a repository.

    Not the library GitPython: it calls the same program, and reads the address of the remote, which may have a password
    in it.
    """
    commit = _ask_git(folder, "rev-parse", "HEAD")
    return f"{commit}-dirty" if commit and _ask_git(folder, "status", "--porcelain", "-uno") else commit


def _ask_git(folder: Path, *words: str) -> str:
    # no optional lock: a run must not disturb a git command of the person
    command = ["git", "--no-optional-locks", "-C", str(folder), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=False)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def read_id(folder: Path, tracker: str) -> str:
    """Returns the id that a tracker has for the run in `folder`; empty if it has none yet."""
    place = folder / tracker / "id"
    return place.read_text(encoding="utf-8").strip() if place.is_file() else ""


def write_id(folder: Path, tracker: str, id: str) -> str:
    """Keeps the id of a run in its folder, so that a resumed run continues it; returns the id."""
    (folder / tracker).mkdir(mode=0o700, parents=True, exist_ok=True)
    write_file(folder / tracker / "id", id)
    return id


def make_id() -> str:
    """Returns a new id of eight hexadecimal digits."""
    return secrets.token_hex(4)
