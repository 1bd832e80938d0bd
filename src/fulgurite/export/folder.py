"""Writes a new folder that is either whole or absent, under a lock, with one sentence if the system refuses."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from fulgurite.errors import ModelError, RequestError, is_shortage
from fulgurite.files.atomic import remove_drafts, write_folder
from fulgurite.files.lock import hold_lock
from fulgurite.language.library_errors import quote_foreign, translate_system_error


@contextlib.contextmanager
def write_new_folder(out: Path, run: str) -> Iterator[Path]:
    """Yields a draft folder to fill; at the end of the block it is renamed to `out`, after an error it is removed.

    Raises RequestError if another process writes `out` or the disk refuses, ModelError if `run` cannot be exported.
    """
    with contextlib.suppress(OSError):
        out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with hold_lock(out.with_name(f".{out.name}.lock"), timeout=0):
            remove_drafts(out.parent, out.name)
            with write_folder(out) as draft:
                yield draft
    except TimeoutError:
        raise RequestError(
            "out={path} is being written by another process; wait for it, or give another folder.", path=out
        ) from None
    except (OSError, SafetensorError, ValueError) as error:
        raise explain_failure(out, run, error) from error


def explain_failure(out: Path, run: str, error: Exception) -> Exception:
    """Returns an error that names the folder if the system refused to write there, else one that names the run."""
    if is_shortage(error):
        return error
    reason = translate_system_error(error) if isinstance(error, OSError) else quote_foreign(error, 400)
    disk = isinstance(error, OSError) or (isinstance(error, SafetensorError) and "os error" in str(error).lower())
    if disk:
        return RequestError(
            "out={path} cannot be written: {reason}; give another folder, or free some space there.",
            path=out, reason=reason,
        )
    return ModelError(
        "{run} cannot be exported: {error}; this is a fault of the export, please report it.",
        run=run, error=reason,
    )
