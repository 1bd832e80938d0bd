"""Function calls, and the functions that may be called, in the form of transformers' `apply_chat_template`."""

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
from fulgurite.data.report import Reason
from fulgurite.language.message import message

OWN_ARGUMENTS = Reason(
    message(
        "arguments of the chat template in the record (chat_template_kwargs), which override data.template_arguments"
    )
)
Objects = tuple[Mapping[str, Any], ...]


def read_tools(record: Fields) -> Objects:
    """Reads the functions of a record: `tools`, or `functions` of OpenAI's older form; a list, or the list as JSON
    text."""
    name = record.first("tools", "functions")
    value = record.get(name) if name else None
    if name is None or is_blank(value):
        return ()
    if isinstance(value, str):
        value = parse_json(value, name)
    if not isinstance(value, list):
        raise Wrong(name, "expected a list of functions, found {kind}", kind=describe_kind(value))
    return tuple(_read_tool(tool, f"{name}[{n}]", record.reading) for n, tool in enumerate(value))


def read_arguments(record: Fields) -> Mapping[str, Any]:
    """Reads the record's arguments of the chat template: TRL's `chat_template_kwargs`, an object or the object as JSON
    text."""
    name = "chat_template_kwargs"
    if not record.has(name) or is_blank(value := record[name]):
        return {}
    plain = copy_json(parse_json(value, name) if isinstance(value, str) else value, name, record.reading.columnar)
    if not isinstance(plain, Mapping):
        raise Wrong(name, "expected an object, found {kind}", kind=describe_kind(plain))
    for argument in plain:
        if argument in RESERVED:
            raise Wrong(f"{name}.{argument}", "Fulgurite sets this argument for each conversation; leave it out")
        if not argument.isidentifier():
            raise Wrong(f"{name}.{argument}", "is not a valid argument name; use letters, digits and _ only")
    if plain:
        record.reading.remarks.add(OWN_ARGUMENTS)
    return plain


def _read_tool(tool: Any, place: str, reading: Reading) -> Mapping[str, Any]:
    """Reads `{"type": "function", "function": {"name", ...}}`; converts a bare `{"name", ...}` to that form."""
    if not isinstance(tool, Mapping):
        raise Wrong(place, "expected an object with a name, found {kind}", kind=describe_kind(tool))
    plain: dict[str, Any] = copy_json(tool, place, reading.columnar)
    # A bare function without the outer object is wrapped.
    function = plain.get("function")
    if function is None:
        function = {name: value for name, value in plain.items() if name != "type"}
        plain = {"type": "function", "function": function}
    if not isinstance(function, Mapping):
        raise Wrong(f"{place}.function", "expected an object with a name, found {kind}", kind=describe_kind(function))
    # The place in the record itself, which may lack the outer object.
    _read_name(function, f"{place}.function" if "function" in tool else place)
    return {"type": "function"} | plain


def read_calls(value: Any, place: str, reading: Reading) -> Objects:
    """Reads a list of calls, one call, or either as JSON text."""
    if is_blank(value):
        return ()
    if isinstance(value, str):
        value = parse_json(value, place)
    if isinstance(value, Mapping):
        return (_read_call(value, place, reading),)
    if not isinstance(value, list):
        raise Wrong(place, "expected a list of calls, found {kind}", kind=describe_kind(value))
    return tuple(_read_call(call, f"{place}[{n}]", reading) for n, call in enumerate(value))


def _read_call(value: Any, place: str, reading: Reading) -> Mapping[str, Any]:
    """Reads `{"type": "function", "function": {"name", "arguments"}}` with its `id`, or a bare `{"name", "arguments"}`.
    """
    if not isinstance(value, Mapping):
        raise Wrong(place, "expected an object {{name, arguments}}, found {kind}", kind=describe_kind(value))
    call = Fields(value, reading, place)
    kind = call.get("type")
    if kind not in (None, "function"):
        raise Wrong(f"{place}.type", "only calls of type function are supported")
    made: dict[str, Any] = {"type": "function"}
    if not is_blank(number := call.get("id")):
        made["id"] = to_text(number, call.at("id"), reading)
    function = call
    if call.has("function"):
        if not isinstance(call["function"], Mapping):
            raise Wrong(
                call.at("function"),
                "expected an object {{name, arguments}}, found {kind}", kind=describe_kind(call["function"]),
            )
        function = Fields(call["function"], reading, call.at("function"))
    name = _read_name(function, function.place)
    made["function"] = {"name": name, "arguments": _parse_arguments(function)}
    # A bare call is its own function: note its unread keys once.
    for fields in {id(call): call, id(function): function}.values():
        fields.note_unread()
    return made


def _read_name(function: Mapping[str, Any], place: str) -> str:
    name = function.get("name")
    if not isinstance(name, str):
        raise Wrong(f"{place}.name", "expected the name of a function, found {kind}", kind=describe_kind(name))
    if not name.strip():
        raise Wrong(f"{place}.name", "is empty")
    refuse_damage(name, f"{place}.name")
    return name


def _parse_arguments(function: Fields) -> dict[str, Any]:
    """Reads the arguments as an object; an empty one if there are none."""
    value, place = function.get("arguments"), function.at("arguments")
    if is_blank(value):
        return {}
    # A null in JSON text is part of the data; one in a column may have been added by the file format.
    drop_nulls = function.reading.columnar and not isinstance(value, str)
    if isinstance(value, str):
        value = parse_json(value, place)
    plain = copy_json(value, place, drop_nulls)
    if not isinstance(plain, dict):
        raise Wrong(place, "expected an object, found {kind}", kind=describe_kind(plain))
    return plain


def write_calls(calls: Sequence[Mapping[str, Any]]) -> str:
    """Formats the calls as text, each `{"name": ..., "arguments": {...}}` on a line of its own."""
    return "\n".join(json.dumps(call["function"], ensure_ascii=False) for call in calls)


def format_call(call: Mapping[str, Any]) -> str:
    """Formats a call for a reader: `name(key="text", other=1)`, with each value as JSON."""
    function = call["function"]
    given = function.get("arguments")
    if not isinstance(given, Mapping):
        return f"{function['name']}({json.dumps(given, ensure_ascii=False)})"
    return f"{function['name']}({', '.join(f'{k}={json.dumps(v, ensure_ascii=False)}' for k, v in given.items())})"
