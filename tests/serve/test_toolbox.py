"""The functions of a chat: read from JSON, or described and computed by Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fulgurite.errors import ConfigError, Interrupted
from fulgurite.serve.toolbox import Toolbox, load_toolbox

WEATHER = {"name": "weather", "description": "The weather.", "parameters": {"type": "object", "properties": {}}}
TOOL = {"type": "function", "function": WEATHER}
CODE = '''
import json
from os.path import join

def weather(city: str, days: int = 1):
    """The weather of a city.

    Args:
        city: the city
        days: how many days
    """
    if city == "Nowhere":
        raise ValueError("no such city")
    if city == "exit":
        raise SystemExit(3)
    if city == "stop":
        raise KeyboardInterrupt
    return {"city": city, "days": days, "wind": "Föhn"}

def text():
    """A text."""
    return "two\\nlines"

def _hidden(): ...
'''


@pytest.fixture
def box(tmp_path: Path) -> Toolbox:
    (tmp_path / "my.py").write_text(CODE, encoding="utf-8")
    return load_toolbox(str(tmp_path / "my.py"))


@pytest.mark.parametrize("value", [[TOOL], [WEATHER], {"tools": [TOOL]}, {"tools": json.dumps([WEATHER]), "other": 1}])
def test_every_form_of_a_file_is_one_list(tmp_path: Path, value: object) -> None:
    (tmp_path / "tools.json").write_text(json.dumps(value))
    found = load_toolbox(str(tmp_path / "tools.json"))
    assert found == Toolbox((TOOL,))
    assert found.compute("weather", {}) is None


def test_a_python_file_offers_its_own_public_functions(box: Toolbox) -> None:
    assert box.names == ["weather", "text"]
    parameters = box.tools[0]["function"]["parameters"]
    assert parameters["properties"]["city"] == {"type": "string", "description": "the city"}
    assert parameters["required"] == ["city"]


def test_a_result_is_text_or_json(box: Toolbox) -> None:
    assert box.compute("weather", {"city": "Chur"}) == '{"city": "Chur", "days": 1, "wind": "Föhn"}'
    assert box.compute("text", {}) == "two\nlines"


@pytest.mark.parametrize(("name", "arguments", "part"), [
    ("weather", {"city": "Nowhere"}, "Error: ValueError: no such city"),
    ("weather", {}, "missing 1 required positional argument: 'city'"),
    ("weather", {"town": "Chur"}, "unexpected keyword argument 'town'"),
    ("weather", {"city": "exit"}, "called sys.exit(3)"),
    ("rain", {}, "Error: there is no function rain; the functions are weather, text."),
])
def test_an_error_goes_back_to_the_model_as_text(box: Toolbox, name: str, arguments: dict[str, str], part: str) -> None:
    result = box.compute(name, arguments)
    assert result is not None
    assert result.startswith("Error: ")
    assert part in result


def test_ctrl_c_in_a_function_stops_it(box: Toolbox) -> None:
    with pytest.raises(Interrupted):
        box.compute("weather", {"city": "stop"})


@pytest.mark.parametrize(("name", "content", "part"), [
    ("tools.yaml", "", "expected a .json file"), ("tools.json", None, "there is no such file"),
    ("tools.json", "[", "not JSON"), ("tools.json", "5", "expected a list of functions, found a number"),
    ("tools.json", "[]", "contains no function"), ("tools.json", '[{"x": 1}]', "expected the name of a function"),
    ("tools.json", json.dumps([TOOL, TOOL]), "two functions named weather"),
    ("tools.py", "1 +", "cannot be imported: SyntaxError"), ("tools.py", "x = 1", "contains no function"),
    ("tools.py", "def f(x):\n    '''One.'''", "the function f cannot be described"),
    ("tools.py", "async def f():\n    '''One.'''", "f is not a plain function"),
    ("tools.py", "__all__ = ['g']", "g is not a plain function"),
    ("tools.py", "raise SystemExit(1)", "called sys.exit(1)"),
])
def test_a_wrong_file_is_one_sentence(tmp_path: Path, name: str, content: str | None, part: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError) as error:
        load_toolbox(str(tmp_path / name))
    assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_no_file_is_no_function() -> None:
    assert load_toolbox(None) == Toolbox()
