"""Calls of functions and the functions that may be called, as transformers' `apply_chat_template` takes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fulgurite.data.config import RESERVED
from fulgurite.data.fields import (
    Fields,
    Reading,
    Wrong,
    copy_json,
    describe_kind,
    is_blank,
    parse_json,
    refuse_damage,
    to_text,
)

OWN_ARGUMENTS = (
    "arguments of the chat template in the record (chat_template_kwargs), which go before data.template_arguments"
)
Objects = tuple[Mapping[str, Any], ...]


def read_tools(record: Fields) -> Objects:
    """The functions of a record: `tools`, or `functions` of OpenAI's older form; a list, or the list as JSON text."""
    name = record.first("tools", "functions")
    value = record.get(name) if name else None
    if name is None or is_blank(value):
        return ()
    if isinstance(value, str):
        value = parse_json(value, name)
    if not isinstance(value, list):
        raise Wrong(name, f"a list of functions is due and this is {describe_kind(value)}")
    return tuple(_read_tool(tool, f"{name}[{n}]", record.reading) for n, tool in enumerate(value))


def read_arguments(record: Fields) -> Mapping[str, Any]:
    """What the record gives the chat template besides: TRL's `chat_template_kwargs`, an object or the object as JSON
    text.
    """
    name = "chat_template_kwargs"
    if not record.has(name) or is_blank(value := record[name]):
        return {}
    plain = copy_json(parse_json(value, name) if isinstance(value, str) else value, name, record.reading.columnar)
    if not isinstance(plain, Mapping):
        raise Wrong(name, f"an object is due and this is {describe_kind(plain)}")
    for argument in plain:
        if argument in RESERVED:
            raise Wrong(f"{name}.{argument}", "is given for each conversation; leave it out")
        if not argument.isidentifier():
            raise Wrong(f"{name}.{argument}", "is no name of an argument; write it with letters, digits and _")
    if plain:
        record.reading.remarks.add(OWN_ARGUMENTS)
    return plain


def _read_tool(tool: Any, place: str, reading: Reading) -> Mapping[str, Any]:
    """`{"type": "function", "function": {"name", ...}}`; a bare `{"name", ...}` is put into that form."""
    if not isinstance(tool, Mapping):
        raise Wrong(place, f"an object with a name is due and this is {describe_kind(tool)}")
    plain: dict[str, Any] = copy_json(tool, place, reading.columnar)
    function = plain.get("function")
    if function is None:
        function = {name: value for name, value in plain.items() if name != "type"}
        plain = {"type": "function", "function": function}
    if not isinstance(function, Mapping):
        raise Wrong(f"{place}.function", f"an object with a name is due and this is {describe_kind(function)}")
    _read_name(function, f"{place}.function" if "function" in tool else place)
    return {"type": "function"} | plain


def read_calls(value: Any, place: str, reading: Reading) -> Objects:
    """A list of calls, one call, or either as JSON text."""
    if is_blank(value):
        return ()
    if isinstance(value, str):
        value = parse_json(value, place)
    if isinstance(value, Mapping):
        return (_read_call(value, place, reading),)
    if not isinstance(value, list):
        raise Wrong(place, f"a list of calls is due and this is {describe_kind(value)}")
    return tuple(_read_call(call, f"{place}[{n}]", reading) for n, call in enumerate(value))


def _read_call(value: Any, place: str, reading: Reading) -> Mapping[str, Any]:
    """`{"type": "function", "function": {"name", "arguments"}}`, with its `id`; a bare `{"name", "arguments"}` as well.
    """
    if not isinstance(value, Mapping):
        raise Wrong(place, f"an object {{name, arguments}} is due and this is {describe_kind(value)}")
    call = Fields(value, reading, place)
    kind = call.get("type")
    if kind not in (None, "function"):
        raise Wrong(f"{place}.type", "only calls of type function are read")
    made: dict[str, Any] = {"type": "function"}
    if not is_blank(number := call.get("id")):
        made["id"] = to_text(number, call.at("id"), reading)
    function = call
    if call.has("function"):
        if not isinstance(call["function"], Mapping):
            raise Wrong(
                call.at("function"),
                f"an object {{name, arguments}} is due and this is {describe_kind(call['function'])}",
            )
        function = Fields(call["function"], reading, call.at("function"))
    name = _read_name(function, function.place)
    made["function"] = {"name": name, "arguments": _parse_arguments(function)}
    for fields in {id(call): call, id(function): function}.values():
        fields.note_unread()
    return made


def _read_name(function: Mapping[str, Any], place: str) -> str:
    name = function.get("name")
    if not isinstance(name, str):
        raise Wrong(f"{place}.name", f"the name of a function is due and this is {describe_kind(name)}")
    if not name.strip():
        raise Wrong(f"{place}.name", "is empty")
    refuse_damage(name, f"{place}.name")
    return name


def _parse_arguments(function: Fields) -> dict[str, Any]:
    """The arguments as an object; none are an empty one."""
    value, place = function.get("arguments"), function.at("arguments")
    if is_blank(value):
        return {}
    # A null inside JSON text was written there; one inside a column may have been added by the file's format.
    drop_nulls = function.reading.columnar and not isinstance(value, str)
    if isinstance(value, str):
        value = parse_json(value, place)
    plain = copy_json(value, place, drop_nulls)
    if not isinstance(plain, dict):
        raise Wrong(place, f"an object is due and this is {describe_kind(plain)}")
    return plain


def write_calls(calls: Sequence[Mapping[str, Any]]) -> str:
    """The calls as text, each `{"name": ..., "arguments": {...}}` on a line of its own."""
    return "\n".join(json.dumps(call["function"], ensure_ascii=False) for call in calls)
