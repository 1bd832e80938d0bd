"""Where a study is kept: SQLite, or whatever database Optuna's URL names."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fulgurite.errors import ConfigError
from fulgurite.language.library_errors import translate_error


def silence_optuna() -> None:
    """Silences Optuna's line for every trial; we print our own."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)


def hold_alone(url: str) -> contextlib.AbstractContextManager[Any]:
    """One process at a time, where the study is an SQLite file.

    Optuna keeps two processes from taking one trial by SELECT ... FOR UPDATE, which SQLite does not have, nor a
    table made twice.
    """
    from filelock import FileLock
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        place = make_url(url)
    except ArgumentError:
        return contextlib.nullcontext()  # `open_storage` reports what is wrong with it
    file = place.database if place.get_backend_name() == "sqlite" else None
    return FileLock(f"{file}.lock") if file and Path(file).parent.is_dir() else contextlib.nullcontext()


def open_storage(url: str) -> Any:
    """Optuna's storage. Raises ConfigError where it cannot be reached, or where the URL holds a password."""
    import optuna

    if urlsplit(url).password:
        raise ConfigError(
            "sweep.storage holds a password, which config.yaml would keep; leave it out: PostgreSQL reads ~/.pgpass, "
            "MySQL ~/.my.cnf."
        )
    silence_optuna()
    try:
        if not url.startswith("sqlite"):
            return optuna.storages.get_storage(url)
        patient = {"connect_args": {"timeout": 60}}  # seconds that one waits for another's write; SQLite's own is 5
        with hold_alone(url):
            return optuna.storages.get_storage(optuna.storages.RDBStorage(url, engine_kwargs=patient))
    except Exception as error:  # SQLAlchemy's own, the driver's, ImportError: each library has its tree
        reason = translate_error(error, 160)
        raise ConfigError(
            "sweep.storage={url} cannot be opened: {reason}; give a URL that Optuna takes, or leave it empty.",
            url=url, reason=reason,
        ) from error


def mark_trial(study: Any, trial: Any, name: str, value: Any) -> None:
    """Writes an attribute of a trial, also of one that has ended or that another process has asked for.

    Optuna's public `Trial.set_user_attr` is that of a running trial of this process. This is the one place that uses
    private names of Optuna, `_storage` and `_trial_id` (tested with Optuna 5.0).
    """
    study._storage.set_trial_user_attr(trial._trial_id, name, value)
