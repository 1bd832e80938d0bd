"""Converts a file of settings by its trainer's rules, and the table of foreign names for everything else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fulgurite.convert import reasons
from fulgurite.convert.conversion import (
    Answer,
    Conversion,
    Handler,
    Line,
    Settings,
    drop,
    refuse,
    show_value,
    take,
    write_word,
)
from fulgurite.foreign_names.entry import ForeignName
from fulgurite.foreign_names.settings import translate_entry
from fulgurite.foreign_names.table import find_names
from fulgurite.language.message import message

NOT_NEEDED = "Not needed"
"""The beginning of a note on a foreign name that needs no counterpart."""


@dataclass(frozen=True, slots=True)
class SourceTrainer:
    """How the files of a trainer are converted."""

    owner: str
    owners: Sequence[str]
    """Whose names its files have, the most likely first."""
    handlers: Mapping[str, Handler] = field(default_factory=dict)
    """For the keys whose meaning depends on other keys, or whose values are not ours."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """The values that count if the file lacks a key, and that are not ours."""
    skipped_defaults: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Defaults that do not count if one of these keys is in the file."""
    decisive: Sequence[str] = ()
    """The keys whose defaults make the run what it is, so that they always count."""
    nested: Sequence[str] = ()
    """Keys whose value is an object with settings of its own."""


def convert_tree(trainer: SourceTrainer, tree: Mapping[Any, Any], *, defaults: bool = True) -> Conversion:
    """Returns a file of settings, which was read already, in our words.

    With `defaults`, the other trainer's defaults for the keys that the file lacks are words too, so that the run is the
    same; without, those values are derived here.
    """
    given = dict(_flatten(tree, trainer.nested))
    absent = {
        key: value for key, value in trainer.defaults.items()
        if (defaults or key in trainer.decisive) and given.get(key) is None
        and not any(given.get(other) for other in trainer.skipped_defaults.get(key, ()))
    }
    settings = Settings(given, absent)
    lines = [_make_line(trainer, settings, key, value) for key, value in given.items()]
    lines += [_make_line(trainer, settings, key, value, is_default=True) for key, value in absent.items()]
    return Conversion(trainer.owner, tuple(line for line in lines if not line.is_default or line.words))


def _make_line(trainer: SourceTrainer, settings: Settings, key: str, value: Any, is_default: bool = False) -> Line:
    # a setting of a nested object is known by `object.key` or by its key alone
    name = key if key in trainer.handlers else key.rpartition(".")[2]
    if name in trainer.handlers:
        try:
            verdict, words, reason = trainer.handlers[name](settings, value)
        except (TypeError, ValueError, ArithmeticError):  # text for a number, a list for a name
            verdict, words, reason = refuse(message("Its value cannot be read."))
    else:
        verdict, words, reason = convert_by_name(trainer, name, value)
    return Line(key, show_value(value), verdict, words, reason, is_default)


def convert_by_name(trainer: SourceTrainer, key: str, value: Any) -> Answer:
    """Returns the answer for a key by the table of foreign names."""
    entry = _find_entry(trainer, key)
    if entry is None:
        return refuse(reasons.UNKNOWN) if value is not None else drop(reasons.EMPTY)
    if value is None or value == "":
        return drop(reasons.EMPTY)
    if not entry.words:
        return drop(entry.note) if is_unneeded(entry) else refuse(entry.note)
    if isinstance(value, Mapping):
        return refuse(entry.note)
    found = translate_entry(entry, show_value(value))
    if not found.is_copied:
        return refuse(entry.note or message("Its value means something else here; see {words}.", words=entry.words))
    if not found.words:
        return drop(entry.note or (reasons.OFF if entry.is_switch else reasons.SAME))
    if isinstance(value, list | float) and found.words == (f"{entry.words}={show_value(value)}",):
        return take(write_word(entry.words, value))
    return take(*found.words, reason=entry.note)


def is_unneeded(entry: ForeignName) -> bool:
    """Returns whether a name without a counterpart needs none."""
    return str(entry.note.template).startswith(NOT_NEEDED)




def _find_entry(trainer: SourceTrainer, key: str) -> ForeignName | None:
    entries = {entry.owner: entry for entry in reversed(find_names(key))}
    return next((entries[owner] for owner in trainer.owners if owner in entries), None)


def _flatten(tree: Mapping[Any, Any], nested: Sequence[str], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields settings; those of an object of settings by `object.key`."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and str(key) in nested:
            yield from _flatten(value, nested, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


