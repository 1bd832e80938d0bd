"""What the page can do with a run: stop it, resume it, export it."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

from fulgurite.board.http_error import BusyError
from fulgurite.board.launches import choose_signal
from fulgurite.board.processes import signal_run
from fulgurite.board.run_view import describe_run
from fulgurite.board.runs import KnownRun
from fulgurite.board.server.run_services import RunServices
from fulgurite.checkpoint.folder import list_steps
from fulgurite.config.overrides import quote_verbatim
from fulgurite.errors import ConfigError, RequestError, join_or
from fulgurite.language.library_errors import translate_system_error
from fulgurite.language.message import message

FORMATS = {"merged": "true", "adapter": "false"}
"""The value of `merge` by the format that the page asks for."""
MOST_EXPORTS = 1000
LEAVING = 20.0
"""Seconds that a stopped run may take to leave before it is resumed."""


def stop_run(services: RunServices, run_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """Asks a run to save a checkpoint and leave, as Ctrl-C does; asked again after ten seconds, to leave at once.

    Raises RequestError if it does not run here.
    """
    run = services.catalogue.find_run(run_id)
    if not run.is_live:
        raise RequestError("This run has ended already.")
    record = services.launches.find_running(run.folder)
    if record is not None:
        services.launches.stop(record)
    else:
        _stop_foreign(services, run)
    return {"run": describe_run(run, services.board.roots)}


def _stop_foreign(services: RunServices, run: KnownRun) -> None:
    """Stops a run that was started on a command line."""
    stops = services.stops.setdefault(run.id, [])
    # a run that was started again in the same folder has not been asked yet
    stops[:] = [asked for asked in stops if asked >= (run.summary.started or 0.0)]
    number = choose_signal(stops, time.time())
    if number is not None:
        signal_run(run.folder, signal.Signals(number))
        stops.append(time.time())


def resume_run(services: RunServices, run_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """Starts `fulgurite train resume.run=...`. Raises RequestError with the reason if the run cannot be resumed."""
    run = services.catalogue.find_run(run_id)
    if (obstacle := run.find_obstacle()) is not None:
        raise RequestError(obstacle)
    # a run that was stopped has written its status, but its process takes some seconds more to leave
    own = services.launches.find_running(run.folder)
    if own is not None and not (own.stops and services.launches.wait_for_end(own, LEAVING)):
        raise RequestError("This run is starting already.")
    refuse_second(services, body)
    record = services.launches.start("resume", ["train", f"resume.run={quote_verbatim(run.folder)}"], run.folder)
    return {"launch": services.describe_launch(record)}


def export_run(services: RunServices, run_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """Starts `fulgurite export` into a new folder inside the run. Raises RequestError."""
    run = services.catalogue.find_run(run_id)
    kind = body.get("format", "merged")
    if kind not in FORMATS:
        raise ConfigError("format must be {formats}.", formats=join_or([*FORMATS]))
    if not list_steps(run.folder / "checkpoints"):
        raise RequestError("This run has no checkpoint yet.")
    out = choose_export(run.folder, str(kind))
    words = ["export", f"run={run.folder}", f"out={out}", f"merge={FORMATS[str(kind)]}"]
    record = services.launches.start("export", words, out)
    return {"launch": services.describe_launch(record), "folder": services.board.roots.shorten(out)}


def choose_export(folder: Path, kind: str) -> Path:
    """Returns a folder for an export that does not exist, and claims it. Raises RequestError."""
    for number in range(1, MOST_EXPORTS):
        out = folder / (f"export-{kind}" if number == 1 else f"export-{kind}-{number}")
        try:
            out.mkdir(mode=0o700)  # an empty folder may be written to by the export
        except FileExistsError:
            continue
        except OSError as error:
            raise RequestError(
                "{path} cannot be written: {reason}.", path=out, reason=translate_system_error(error),
            ) from error
        return out
    raise RequestError("There are too many exports in {path}; remove some.", path=folder)


def refuse_second(services: RunServices, body: dict[str, Any]) -> None:
    """Raises BusyError if another command of this board trains on the device; `anyway` starts in spite of it."""
    if body.get("anyway") is True:
        return
    other = services.launches.find_training()
    if other is not None:
        raise BusyError(message(
            "{name} is training on this machine. Two runs at once share its memory and slow each other down: wait for "
            "it, or start anyway.", name=Path(other.folder).name,
        ))
