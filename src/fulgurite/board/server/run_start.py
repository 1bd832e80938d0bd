"""Starts a run or a search from a draft, in a folder that is known beforehand."""

from __future__ import annotations

import contextlib
import datetime
import re
from pathlib import Path
from typing import Any

from fulgurite.board.draft import Draft, build_words, read_draft
from fulgurite.board.roots import Roots
from fulgurite.board.server.run_actions import refuse_second
from fulgurite.board.server.run_services import RunServices
from fulgurite.config.overrides import quote_verbatim
from fulgurite.errors import ConfigError, FulguriteError
from fulgurite.explain.choices import read_default_options

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""A name of a run that the page may give: it becomes a part of the folder's name."""
RUNS = "runs"
DAY = re.compile(r"\d{4}-\d\d-\d\d")


def start_run(services: RunServices, body: dict[str, Any]) -> dict[str, Any]:
    """Starts what a draft describes. Raises FulguriteError if the page may not, or if another run has the device."""
    board, draft = services.board, read_draft(body.get("draft"))
    words = build_words(draft, board.allow_code, board.roots.allows)
    name = read_run_name(body, draft)
    if "resume.run" in draft.values:
        raise ConfigError("A run is resumed on its own page, not with resume.run.")
    refuse_second(services, body)
    if name and "name" not in draft.values:
        words.append(f"name={name}")
    given = draft.values.get("run_dir", "").strip()
    folder = board.roots.base / Path(given).expanduser() if given else claim(board.roots, draft, name)
    if not given:
        words.append(f"run_dir={quote_verbatim(folder)}")
    try:
        kind = "sweep" if draft.is_search else "train"
        record = services.launches.start(kind, ["train", *(["-m"] if draft.is_search else []), *words], folder)
    except FulguriteError:
        if not given:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
    return {"launch": services.describe_launch(record)}


def read_run_name(body: dict[str, Any], draft: Draft) -> str:
    """Returns the name that a body gives a run, empty if it gives none. Raises ConfigError."""
    name = body.get("name") or draft.values.get("name") or ""
    if name and (not isinstance(name, str) or not NAME.fullmatch(name) or not name.strip(".")):
        raise ConfigError("A name has at most 64 letters, digits, dots, dashes and underscores.")
    return str(name)


def claim(roots: Roots, draft: Draft, name: str) -> Path:
    """Makes the folder of a new run or search. Raises RequestError with the reason if the disk refuses."""
    from fulgurite.run.folder import claim_folder, claim_run_folder  # imports Hydra

    home = choose_home(roots.folders[0])
    if draft.is_search:
        label = name or (draft.adds["sweep"] if NAME.fullmatch(draft.adds["sweep"]) else "sweep")
        return claim_folder(home / "sweeps" / f"{datetime.datetime.now():%Y-%m-%d_%H-%M-%S}_{label}")
    options = {**read_default_options(), **draft.choices}
    label = name or "-".join(str(options.get(group, group)) for group in ("stage", "method"))
    return claim_run_folder(home, label if NAME.fullmatch(label) else "run")


def choose_home(root: Path) -> Path:
    """Returns the folder for new runs: the root itself if it is one of runs, else `runs` in it, as on the command line.
    """
    try:
        has_runs = any(DAY.fullmatch(path.name) for path in root.iterdir() if path.is_dir())
    except OSError:
        has_runs = False
    return root if root.name == RUNS or has_runs else root / RUNS
