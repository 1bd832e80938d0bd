"""The form of a file: which columns are read, and under which names."""

from __future__ import annotations

import pytest

from fulgurite.data.config import Format
from fulgurite.data.file_form import FileForm, build_form, lower_roles
from fulgurite.errors import DataError


def test_columns_of_a_record_and_keys_of_a_turn_are_told_apart() -> None:
    form = build_form(Format.auto, {"messages": "talk", "role": "who"}, {"Customer": "user"})
    assert (form.columns, form.turn_keys) == ({"messages": "talk"}, {"role": "who"})
    assert form.roles == {"customer": "user", "Customer": "user"}


def test_an_open_form_reads_every_column() -> None:
    record = {"a": 1, "b": 2}
    assert FileForm(columns={"text": "a"}).select(record) == record
    assert FileForm(columns={"text": "gone"}).find_columns(record) == {"text": "gone"}


def test_a_closed_form_reads_its_columns_only() -> None:
    form = FileForm(columns={"text": "a", "system": "c.d"}, is_closed=True)
    assert form.select({"a": 1, "b": 2, "c": {"d": 3}}) == {"a": 1, "c": {"d": 3}}
    assert form.select("no record") == "no record"


def test_a_lenient_form_does_without_a_missing_column() -> None:
    form = FileForm(columns={"text": "a", "system": "c"}, is_lenient=True)
    assert form.find_columns({"a": 1}) == {"text": "a"}


def test_a_role_that_is_none_of_ours_is_refused() -> None:
    with pytest.raises(DataError, match=r"data\.roles: x is mapped to y, which is not a role; the roles are user"):
        lower_roles({"x": "y"})
