"""Reads a JSON file that somebody else wrote: bounded in size and depth, and every fault is a ValueError."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from fulgurite.language.library_errors import translate_error
from fulgurite.language.message import UserMessage, message

MOST_BYTES = 64 << 20
"""Size of the largest JSON file that is read; a tokenizer_config.json with 100,000 added tokens has some 20 MB."""
MOST_DEPTH = 64
"""Nesting that is read.

Files of models nest up to about ten deep; libraries recurse over what was read, and Python stops at 1,000.
"""


def read_json(path: Path, most_bytes: int = MOST_BYTES) -> Any:
    """Returns the value that a JSON file holds. Raises OSError, or ValueError with the reason."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):  # a pipe or a device may never end
        raise ValueError(message("not a regular file"))
    if found.st_size > most_bytes:
        raise ValueError(
            message(
                "the file has {size:,.0f} MB, and at most {most:,.0f} MB are read",
                size=found.st_size / 1e6, most=most_bytes / 1e6,
            )
        )
    try:
        # From bytes, json recognises UTF-8, UTF-16 and UTF-32 itself.
        value = json.loads(path.read_bytes())
    except RecursionError:
        raise _build_depth_error() from None
    # Before ValueError, of which it is a subclass.
    except UnicodeDecodeError:
        raise ValueError(message("not JSON (not UTF-8 text)")) from None
    except ValueError as error:
        raise ValueError(message("not JSON ({error})", error=translate_error(error))) from None
    if count_depth(value) > MOST_DEPTH:
        raise _build_depth_error()
    return value


def _build_depth_error() -> ValueError:
    return ValueError(message("nested more than {most} levels deep", most=MOST_DEPTH))


def read_object(path: Path, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """Returns the JSON object that a file holds. Raises OSError, or ValueError with the reason."""
    value = read_json(path, most_bytes)
    if not isinstance(value, dict):
        raise ValueError(message("expected a JSON object, found {kind}", kind=name_type(value)))
    return value


def count_depth(value: Any) -> int:
    """Returns how deep lists and objects are nested. Stops counting beyond MOST_DEPTH, and never recurses."""
    # level by level: a recursion would fail on the very files that this is to refuse
    level, found = [value], 0
    while found <= MOST_DEPTH:
        level = [item for item in level if isinstance(item, dict | list)]
        if not level:
            break
        found += 1
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return found


def name_type(value: Any) -> UserMessage | str:
    """Returns the JSON name of a value's type."""
    if value is None:
        return "null"
    names = {
        dict: message("an object"), list: message("a list"), str: message("text"), bool: message("true or false"),
        int: message("a number"), float: message("a number"),
    }
    return names.get(type(value), type(value).__name__)
