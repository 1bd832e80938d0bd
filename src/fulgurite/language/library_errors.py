"""Errors of libraries as facts of a sentence: those of JSON, YAML and the system in the language in use, others quoted.

A Chinese sentence would otherwise contain an English one: "不是 JSON（Expecting value: line 1 column 1）".
"""

from __future__ import annotations

import errno
import json
import re
from dataclasses import dataclass

from fulgurite.language.current import get_language
from fulgurite.language.message import UserMessage, message

SYSTEM = {
    errno.EPERM: message("Operation not permitted"),
    errno.ENOENT: message("No such file or directory"),
    errno.EIO: message("Input/output error"),
    errno.ENXIO: message("No such device or address"),
    errno.ENOMEM: message("Cannot allocate memory"),
    errno.EACCES: message("Permission denied"),
    errno.EBUSY: message("Device or resource busy"),
    errno.EEXIST: message("File exists"),
    errno.ENOTDIR: message("Not a directory"),
    errno.EISDIR: message("Is a directory"),
    errno.EINVAL: message("Invalid argument"),
    errno.EMFILE: message("Too many open files"),
    errno.EFBIG: message("File too large"),
    errno.ENOSPC: message("No space left on device"),
    errno.EROFS: message("Read-only file system"),
    errno.EPIPE: message("Broken pipe"),
    errno.ENAMETOOLONG: message("File name too long"),
    errno.ENOTEMPTY: message("Directory not empty"),
    errno.ELOOP: message("Too many levels of symbolic links"),
    errno.EADDRINUSE: message("Address already in use"),
    errno.ECONNREFUSED: message("Connection refused"),
    errno.ESTALE: message("Stale file handle"),
    errno.EDQUOT: message("Disk quota exceeded"),
}
"""The system's errors that reading and writing files can meet, as glibc words them."""

JSON = {
    "Expecting value": message("Expecting value"),
    "Expecting property name enclosed in double quotes": message("Expecting property name enclosed in double quotes"),
    "Expecting ':' delimiter": message("Expecting ':' delimiter"),
    "Expecting ',' delimiter": message("Expecting ',' delimiter"),
    "Extra data": message("Extra data"),
    "Unterminated string starting at": message("Unterminated string starting at"),
    "Invalid control character at": message("Invalid control character at"),
    "Invalid \\escape": message("Invalid \\escape"),
    "Invalid \\uXXXX escape": message("Invalid \\uXXXX escape"),
    "Unexpected UTF-8 BOM (decode using utf-8-sig)": message("Unexpected UTF-8 BOM (decode using utf-8-sig)"),
    "Illegal trailing comma before end of object": message("Illegal trailing comma before end of object"),
    "Illegal trailing comma before end of array": message("Illegal trailing comma before end of array"),
}
"""All that Python's decoder complains about (3.11 to 3.13)."""

YAML = (
    (r"mapping values are not allowed", message("mapping values are not allowed here")),
    (r"found character.* cannot start any token", message("found a character that cannot start a value")),
    (r"could not find expected ':'", message("expected ':' after the key")),
    (r"(found )?unexpected end of stream", message("the quotation marks are not closed")),
    (r"found (duplicate|undefined) (alias|anchor)", message("found an alias or an anchor that is not defined once")),
    (r"found unknown escape", message("found an unknown escape sequence")),
    (r"(did not find )?expected (key|<block end>)", message("the indentation of this line does not fit those above")),
    (r"(did not find )?expected '-' indicator|expected <block", message("expected '-' at the beginning of the item")),
    (r".*expected ',' or ([\]}']+)", message("expected ',' or a closing bracket")),
    (r"could not determine a constructor", message("found a tag, which is not read")),
    (r"found unknown directive|.*<document start>", message("expected the beginning of a document")),
)
"""What PyYAML's two scanners complain about most, by the beginning of their words."""

ARGPARSE = (
    (r"argument (?P<flag>.+?): expected one argument", message("argument {flag}: expected one argument")),
    (r"argument (?P<flag>.+?): expected at least one argument",
     message("argument {flag}: expected at least one argument")),
    (r"argument (?P<flag>.+?): invalid choice: (?P<value>.+) \(choose from (?P<choices>.+)\)",
     message("argument {flag}: invalid choice: {value} (choose from {choices})")),
    (r"argument (?P<flag>.+?): invalid (?:int|float|_read\w*) value: (?P<value>.+)",
     message("argument {flag}: {value} is no allowed number")),
    (r"argument (?P<flag>.+?): ignored explicit argument (?P<value>.+)",
     message("argument {flag}: it takes no value, found {value}")),
    (r"argument (?P<flag>.+?): not allowed with argument (?P<other>.+)",
     message("argument {flag}: not allowed with argument {other}")),
    (r"one of the arguments (?P<flags>.+) is required", message("one of the arguments {flags} is required")),
    (r"the following arguments are required: (?P<flags>.+)", message("the following arguments are required: {flags}")),
    (r"unrecognized arguments: (?P<words>.+)", message("unrecognized arguments: {words}")),
    (r"argument (?P<flag>.+?): (?P<text>.+)", message("argument {flag}: {text}")),
)
"""What argparse complains about (3.11 to 3.13), with the names and values that it found."""


@dataclass(frozen=True, slots=True)
class ForeignText:
    """Words of a library, which have no translation: a sentence of another language quotes them."""

    text: str

    def __str__(self) -> str:
        return self.text if get_language() == "en" else f"“{self.text}”"


def quote_foreign(text: object, most: int = 200) -> UserMessage:
    """Returns a library's words on one line, at most `most` characters, as a quotation."""
    return message("{text}", text=ForeignText(" ".join(str(text).split())[:most]))


def translate_system_error(error: OSError) -> UserMessage:
    """Returns why the system refused, without number and path: `No space left on device`."""
    # errno is None if the error was made with a text only.
    known = SYSTEM.get(error.errno or 0)
    return known if known is not None else quote_foreign(error.strerror or error)


def translate_error(error: BaseException, most: int = 200) -> UserMessage:
    """Returns what an error of json, yaml or the system means; our own sentence if it holds one; else its words."""
    if error.args and isinstance(error.args[0], UserMessage):
        return error.args[0]
    if isinstance(error, json.JSONDecodeError):
        return message(
            "{fault}: line {line} column {column} (char {position})", fault=translate_json_fault(error.msg),
            line=error.lineno, column=error.colno, position=error.pos,
        )
    if isinstance(error, OSError) and error.errno in SYSTEM:
        system = translate_system_error(error)
        # The form of str(OSError), so that only the words in it are translated.
        if error.filename is None:
            return message("[Errno {number}] {fault}", number=error.errno, fault=system)
        return message("[Errno {number}] {fault}: {file!r}", number=error.errno, fault=system, file=error.filename)
    # PyYAML is not imported for this: a file of another format must not pay for it
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    if isinstance(problem, str) and mark is not None:
        return message(
            "{fault}, line {line}, column {column}", fault=_translate_yaml_problem(problem), line=mark.line + 1,
            column=mark.column + 1,
        )
    return quote_foreign(error, most)


def translate_json_fault(fault: str) -> UserMessage:
    """Returns a complaint of Python's JSON decoder, which comes without a place."""
    return JSON.get(fault) or quote_foreign(fault)


def translate_argparse(complaint: str) -> UserMessage:
    """Returns a complaint of argparse, whose flags and values stay; a sentence of ours is in its language already."""
    # The order matters: the last pattern fits every complaint about an argument.
    for pattern, words in ARGPARSE:
        if found := re.fullmatch(pattern, complaint, re.DOTALL):
            return message(words.template, **found.groupdict())
    return message("{text}", text=complaint)


def _translate_yaml_problem(problem: str) -> UserMessage:
    known = next((words for pattern, words in YAML if re.match(pattern, problem)), None)
    return known if known is not None else quote_foreign(problem)
