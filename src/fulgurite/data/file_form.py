"""How the records of one file are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fulgurite.data.config import Format
from fulgurite.data.fields import find_root, has_column
from fulgurite.data.messages import TARGETS, TURN_KEYS
from fulgurite.errors import DataError


@dataclass(frozen=True, slots=True)
class FileForm:
    """The format of a file, and its names for our fields and roles."""

    format: Format = Format.auto
    columns: Mapping[str, str] = field(default_factory=dict)
    """The columns of the file by our fields."""
    turn_keys: Mapping[str, str] = field(default_factory=dict)
    """The keys of a turn in the file, by ours: role and content."""
    roles: Mapping[str, str] = field(default_factory=dict)
    """Our roles by the file's."""
    is_closed: bool = False
    """Whether only `columns` are read. Otherwise a column that has the name of a field is that field."""
    is_lenient: bool = False
    """Whether a record may lack a column of `columns`."""
    limit: int | None = None
    """The number of examples that are drawn from the file; None for all."""
    owner: str = "data.columns"
    """What names the columns, for an error."""

    def select(self, record: Any) -> Any:
        """Returns a record without the columns that are not read."""
        if not self.is_closed or not isinstance(record, Mapping):
            return record
        return {name: record[name] for column in self.columns.values() if (name := find_root(record, column)) in record}

    def find_columns(self, record: Any) -> Mapping[str, str]:
        """Returns the columns to rename in a record."""
        if not self.is_lenient or not isinstance(record, Mapping):
            return self.columns
        return {ours: theirs for ours, theirs in self.columns.items() if has_column(record, theirs)}


def build_form(format: Format, columns: Mapping[str, str], roles: Mapping[str, str]) -> FileForm:
    """Builds the form that `data.format`, `data.columns` and `data.roles` give to every file. Raises DataError."""
    return FileForm(
        format, {ours: theirs for ours, theirs in columns.items() if ours not in TURN_KEYS},
        {ours: theirs for ours, theirs in columns.items() if ours in TURN_KEYS}, lower_roles(roles),
    )


def lower_roles(roles: Mapping[str, str], owner: str = "data.roles") -> dict[str, str]:
    """Returns roles by their names as written, and in lower case. Raises DataError for a role that is none of ours."""
    for name, role in roles.items():
        if role not in TARGETS:
            raise DataError(
                "{owner}: {name} is mapped to {role}, which is not a role; the roles are {known}.",
                owner=owner, name=name, role=role, known=", ".join(TARGETS),
            )
    return {name.strip().lower(): role for name, role in roles.items()} | dict(roles)
