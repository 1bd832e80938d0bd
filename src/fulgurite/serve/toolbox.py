"""The functions that a model may call in a chat: from a JSON file, or from a Python file that also computes them."""

from __future__ import annotations

import importlib.util
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fulgurite.errors import ConfigError, FulguriteError, ModelError
from fulgurite.foreign_code import run_foreign
from fulgurite.language.library_errors import translate_error, translate_system_error
from fulgurite.language.message import get_english


@dataclass(frozen=True, slots=True)
class Toolbox:
    """Functions in the form of transformers' `apply_chat_template(tools=...)`, and the Python functions by name."""

    tools: tuple[Mapping[str, Any], ...] = ()
    functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The names of the functions."""
        return [str(tool["function"]["name"]) for tool in self.tools]

    def compute(self, name: str, arguments: Mapping[str, Any]) -> str | None:
        """Returns the result of a call as the model gets it: text, or JSON of anything else; None if there is no code.

        An unknown name, wrong arguments and whatever the function raises are a result too, which begins with `Error:`.
        Raises Interrupted at Ctrl-C.
        """
        if name not in self.names:
            return f"Error: there is no function {name}; the functions are {', '.join(self.names)}."
        function = self.functions.get(name)
        if function is None:
            return None
        try:
            with run_foreign(lambda why: ModelError(why)):
                found = function(**arguments)
                return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False, default=str)
        except FulguriteError as error:
            return f"Error: {get_english(error)}"


def load_toolbox(path: str | None) -> Toolbox:
    """Loads the functions that a file describes (.json) or contains (.py, which runs). Raises ConfigError."""
    if path is None:
        return Toolbox()
    file = Path(path).expanduser()
    if file.suffix not in (".json", ".py"):
        raise ConfigError(
            "tools={path}: expected a .json file with functions in OpenAI's form, or a .py file with functions.",
            path=path,
        )
    if not file.is_file():
        raise ConfigError("tools={path}: there is no such file.", path=path)
    box = _load_python(file, path) if file.suffix == ".py" else _load_json(file, path)
    if not box.tools:
        raise ConfigError("tools={path} contains no function.", path=path)
    if twice := [name for n, name in enumerate(box.names) if name in box.names[:n]]:
        raise ConfigError("tools={path} contains two functions named {name}.", path=path, name=twice[0])
    return box


def _load_json(file: Path, path: str) -> Toolbox:
    from fulgurite.data.fields import Fields, Reading, Wrong
    from fulgurite.data.tool_calls import read_tools
    from fulgurite.files.json import read_json

    try:
        value = read_json(file)
        # A record of a data set, and a request to OpenAI, have the list under `tools`.
        found = value if isinstance(value, Mapping) and "tools" in value else {"tools": value}
        return Toolbox(read_tools(Fields({"tools": found["tools"]}, Reading())))
    except OSError as error:
        raise ConfigError(
            "tools={path} cannot be read: {reason}.", path=path, reason=translate_system_error(error)
        ) from error
    except ValueError as error:
        raise ConfigError("tools={path} cannot be read: {reason}.", path=path, reason=translate_error(error)) from error
    except Wrong as error:
        raise ConfigError(
            "tools={path}: field '{field}': {reason}.", path=path, field=error.field, reason=error.reason
        ) from error


def _load_python(file: Path, path: str) -> Toolbox:
    """Imports the file, and describes its public functions by their types and docstrings."""
    name = f"fulgurite_tools_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ConfigError("tools={path} cannot be read as Python.", path=path)
    module = importlib.util.module_from_spec(spec)
    with run_foreign(lambda why: ConfigError("tools={path} cannot be imported: {reason}.", path=path, reason=why)):
        spec.loader.exec_module(module)
    # Without __all__: what is defined here, so that imported functions are not offered.
    listed = getattr(module, "__all__", None) or [
        key for key, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == name and not key.startswith("_")
    ]
    tools, functions = [], {}
    for key in listed:
        function = getattr(module, key, None)
        if not callable(function) or inspect.iscoroutinefunction(function):
            raise ConfigError("tools={path}: {name} is not a plain function.", path=path, name=key)
        tools.append(_describe_function(function, key, path))
        functions[str(tools[-1]["function"]["name"])] = function
    return Toolbox(tuple(tools), functions)


def _describe_function(function: Callable[..., Any], name: str, path: str) -> Mapping[str, Any]:
    """Returns the JSON schema of a function, as transformers makes it of types and docstring. Raises ConfigError."""
    from transformers.utils import get_json_schema

    with run_foreign(lambda why: ConfigError(
        "tools={path}: the function {name} cannot be described: {reason}. Give each parameter a type, and a line "
        "under Args: in the docstring.",
        path=path, name=name, reason=why,
    )):
        return dict(get_json_schema(function))
