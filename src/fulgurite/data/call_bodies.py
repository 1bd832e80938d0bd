"""Reads the body of a generated call: JSON, parameters between tags, Gemma's quoting, or a Python call."""

from __future__ import annotations

import ast
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import regex

from fulgurite.data.fields import Wrong, copy_json, describe_kind, is_blank, parse_json, refuse_damage
from fulgurite.data.json_stream import MARGIN, Decoder
from fulgurite.language.library_errors import translate_error, translate_json_fault
from fulgurite.language.message import UserMessage, message

ENDS_EARLY = message("the answer ends inside the call")
WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}
"""The constants of JSON and of Python: templates write either."""
NAMES, ARGUMENTS, IDS = ("name", "tool_name"), ("arguments", "parameters"), ("id", "tool_call_id")
"""The keys under which models write the parts of a call."""


@dataclass(frozen=True, slots=True)
class ParsedCall:
    """A call that a model wrote. `id` is empty if the format has none."""

    name: str
    arguments: Mapping[str, Any]
    id: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns the call as `Message.tool_calls` has it."""
        named = {"id": self.id} if self.id else {}
        return {"type": "function", **named, "function": {"name": self.name, "arguments": dict(self.arguments)}}


@dataclass(frozen=True, slots=True)
class CallOpening:
    """What the text before a body has given, and the declared parameters of each function."""

    name: str = ""
    id: str = ""
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


class BrokenBody(Exception):
    """A body cannot be read from position `at` on; unless it is `final`, more text may complete it."""

    def __init__(self, at: int, reason: UserMessage, final: bool = True) -> None:
        self.at, self.reason, self.final = at, reason, final
        super().__init__(reason)


BodyReader = Callable[[str, int, CallOpening, Any], tuple[list[ParsedCall], int]]
"""Reads `text` from a position on, after an opening and up to the pattern of the closing; returns the calls, and the
position after them. Raises BrokenBody."""


def read_functions(text: str, at: int, opening: CallOpening, closing: Any) -> tuple[list[ParsedCall], int]:
    """Reads `{"name": ..., "arguments": {...}}`, or a list of such objects."""
    value, end = _decode_json(text, at)
    found = value if isinstance(value, list) else [value]
    return [_make_call(_read_function(item, end), end) for item in found], end


def read_arguments(text: str, at: int, opening: CallOpening, closing: Any) -> tuple[list[ParsedCall], int]:
    """Reads `{...}`, the arguments of a function whose name is in the opening."""
    value, end = _decode_json(text, at)
    return [_make_call((opening.name, value, opening.id), end)], end


def read_pairs(pair: str) -> BodyReader:
    """Returns a reader of parameters between tags; `pair` is a pattern with the groups `key` and `value`.

    The value of a parameter that is declared as a string is the text itself; of any other, JSON.
    """
    # regex, not re: with partial=True it also finds a match that more text may complete.
    compiled = regex.compile(r"\s*" + pair, regex.DOTALL)

    def read(text: str, at: int, opening: CallOpening, closing: Any) -> tuple[list[ParsedCall], int]:
        arguments: dict[str, Any] = {}
        while not (end := closing.match(text, at, partial=True)):
            found = compiled.match(text, at, partial=True)
            if found is None:
                raise BrokenBody(at, message("expected a parameter or the end of the call"))
            if found.partial:
                raise BrokenBody(at, ENDS_EARLY, final=False)
            if found["key"] in arguments:
                raise BrokenBody(found.end(), message("the parameter {name} occurs twice", name=found["key"]))
            schema = opening.parameters.get(opening.name, {}).get(found["key"])
            arguments[found["key"]], at = _read_value(found["value"], schema), found.end()
        # The beginning of the closing: whether it is one, the next text decides.
        if end.partial:
            raise BrokenBody(at, ENDS_EARLY, final=False)
        return [_make_call((opening.name, arguments, opening.id), at)], at

    return read


def read_gemma(text: str, at: int, opening: CallOpening, closing: Any) -> tuple[list[ParsedCall], int]:
    """Reads Gemma 4's `{key:<|"|>text<|"|>,other:1}`, which becomes JSON once keys and texts are quoted as there."""
    # Texts cannot contain the quotes, so that every second part is a text.
    made, end = "", at
    for n, part in enumerate(text[at:].split('<|"|>')):
        if n % 2:
            # 10 characters: the two quotes <|"|> around the text.
            made, end = made + json.dumps(part), end + len(part) + 10
            continue
        stop = closing.search(part)
        part = part[: stop.start()] if stop else part
        # Keys have no quotes: {key: and ,key: become {"key": and ,"key":.
        made, end = made + regex.sub(r"([{,]\s*)([^\s\"{}\[\],:]+)\s*:", r'\1"\2":', part), end + len(part)
        if stop:
            break
    else:
        raise BrokenBody(at, ENDS_EARLY, final=False)
    try:
        value = parse_json(made, "")
    except Wrong as error:
        raise BrokenBody(end, error.reason) from None
    return [_make_call((opening.name, value, opening.id), end)], end


def read_python(text: str, at: int, opening: CallOpening, closing: Any) -> tuple[list[ParsedCall], int]:
    """Reads LFM2's list of Python calls, `[name(key='text', other=[1, 2])]`, with the constants of JSON too."""
    stop = closing.search(text, at)
    if stop is None:
        raise BrokenBody(at, ENDS_EARLY, final=False)
    end = stop.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # a backslash in an argument
            tree = ast.parse(text[at:end].strip(), mode="eval").body
        calls = tree.elts if isinstance(tree, ast.List) else [tree]
        return [_make_call((*_split_call(call), ""), end) for call in calls], end
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise BrokenBody(end, message("not a Python call ({reason})", reason=translate_error(error, 60))) from None


def _split_call(node: ast.expr) -> tuple[str, dict[str, Any]]:
    """Returns name and arguments of a call. Raises ValueError."""
    name = ""
    # To Python the name get-weather is a difference.
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub):
        name, node = ast.unparse(node.left).replace(" ", "") + "-", node.right
    if not isinstance(node, ast.Call):
        raise ValueError(message("expected name(key=value)"))
    return name + ast.unparse(node.func), _read_keywords(node)


def _read_keywords(call: ast.Call) -> dict[str, Any]:
    if call.args or any(keyword.arg is None for keyword in call.keywords):
        raise ValueError(message("an argument has no name"))
    return {str(keyword.arg): _read_literal(keyword.value) for keyword in call.keywords}


def _read_literal(node: ast.expr) -> Any:
    """Returns the value of a literal. ast.literal_eval does the same, but does not know JSON's constants."""
    if isinstance(node, ast.List | ast.Tuple):
        return [_read_literal(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        return {
            ast.literal_eval(key): _read_literal(value)
            for key, value in zip(node.keys, node.values, strict=True)
            if key is not None
        }
    return WORDS[node.id] if isinstance(node, ast.Name) and node.id in WORDS else ast.literal_eval(node)


def _decode_json(text: str, at: int) -> tuple[Any, int]:
    """Decodes the JSON value after blanks, and returns the position of its end."""
    # raw_decode does not skip blanks before a value.
    begin = at + len(text[at:]) - len(text[at:].lstrip())
    if begin == len(text):
        raise BrokenBody(begin, ENDS_EARLY, final=False)
    decoder = Decoder()
    try:
        value, end = decoder.decode(text, begin)
    except json.JSONDecodeError as error:
        # An error near the end of the text may disappear with more text.
        cut = error.msg.startswith("Unterminated string") or error.pos >= len(text) - MARGIN
        reason = message("not JSON ({reason})", reason=translate_json_fault(error.msg))
        raise BrokenBody(min(error.pos, len(text)), reason, final=not cut) from None
    except ValueError as error:
        raise BrokenBody(begin, message("not JSON ({reason})", reason=translate_error(error, 60))) from None
    if decoder.twin is not None:
        raise BrokenBody(end, message("has the key {key} twice", key=repr(decoder.twin)[:60]))
    return value, end


def _read_function(value: Any, end: int) -> tuple[Any, Any, str]:
    """Returns name, arguments and id of a call as an object; the function may be an object inside it, as OpenAI has
    it."""
    if not isinstance(value, Mapping):
        raise BrokenBody(
            end, message("expected an object {{name, arguments}}, found {kind}", kind=describe_kind(value))
        )
    function = value["function"] if isinstance(value.get("function"), Mapping) else value
    name, arguments = (
        next((function[key] for key in keys if key in function), None) for keys in (NAMES, ARGUMENTS)
    )
    return name, arguments, str(next((value[key] for key in IDS if key in value), ""))


def _make_call(parts: tuple[Any, Any, str], end: int) -> ParsedCall:
    """Makes a call of a name, arguments (an object, or the object as JSON text) and an id. Raises BrokenBody."""
    name, arguments, number = parts
    try:
        if not isinstance(name, str):
            raise Wrong("name", "expected the name of a function, found {kind}", kind=describe_kind(name))
        if not name.strip():
            raise Wrong("name", "is empty")
        refuse_damage(name, "name")
        if is_blank(arguments):
            arguments = {}
        elif isinstance(arguments, str):
            arguments = parse_json(arguments, "arguments")
        plain = copy_json(arguments, "arguments", drop_nulls=False)
        if not isinstance(plain, dict):
            raise Wrong("arguments", "expected an object, found {kind}", kind=describe_kind(plain))
    except Wrong as error:
        raise BrokenBody(
            end, message("field '{field}': {reason}", field=error.field, reason=error.reason)
        ) from None
    return ParsedCall(name.strip(), plain, number)


def _read_value(text: str, schema: Any) -> Any:
    """Returns the value of a parameter that is written without quotes, by its declared type if there is one."""
    types = _list_types(schema)
    if types == {"string"}:
        return text
    word = text.strip()
    if word in WORDS and not (types and "string" in types):
        return WORDS[word]
    try:
        value = parse_json(word, "")
    except Wrong:
        return text
    # A parameter that may be a string too is read as another type only if it is that type.
    return text if types and not _is_of_type(value, types) else value


def _list_types(schema: Any) -> set[str]:
    """Returns the types that a JSON schema allows; empty if it names none."""
    if not isinstance(schema, Mapping):
        return set()
    given = schema.get("type")
    types = {given} if isinstance(given, str) else {t for t in given or () if isinstance(t, str)}
    for choice in (*(schema.get("anyOf") or ()), *(schema.get("oneOf") or ())):
        types |= _list_types(choice)
    return types | ({"null"} if schema.get("nullable") else set())


def _is_of_type(value: Any, types: set[str]) -> bool:
    # Before the numbers, because a bool is an int in Python.
    if isinstance(value, bool):
        return "boolean" in types
    kinds = {"integer": int, "number": int | float, "array": list, "object": dict, "null": type(None)}
    return any(isinstance(value, kinds[t]) for t in types if t in kinds)
