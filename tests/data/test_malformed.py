"""Malformed inputs: each stops before a model is loaded, in one line with file, place, field and reason."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fulgurite.data.build import build_source
from fulgurite.data.config import File, Format
from fulgurite.errors import DataError

Q, A = {"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}
S = {"role": "system", "content": "be brief"}
GOOD = {"messages": [Q, A]}
LINE = r"^\S*/bad\.(jsonl|json|csv|txt):\d+: field '[^']+': .+$"
Write = Callable[[str, Any], Path]


def chat(*turns: Any) -> dict[str, Any]:
    return {"messages": [*turns]}


def said(content: Any) -> dict[str, Any]:
    return chat(Q, {"role": "assistant", "content": content})


BAD: dict[str, tuple[str, Any, str]] = {
    # name: (file, content, what is said after the place)
    "empty file": ("bad.jsonl", "", ":1: field 'record': the file has no record"),
    "only blank lines": ("bad.jsonl", "\n \n\n", ":1: field 'record': the file has no record"),
    "empty list": ("bad.json", "[]", ":1: field 'record': the file has no record"),
    "header alone": ("bad.csv", "instruction,output\n", ":1: field 'record': the file has no record"),
    "not JSON": ("bad.jsonl", "hello\n", ":1: field 'record': not JSON"),
    "cut inside a record": ("bad.json", '[{"messages": [{"role": "us', ":1: field 'record': not JSON"),
    "cut inside a line": ("bad.jsonl", '{"messages": [{"role": "us', ":1: field 'record': not JSON"),
    "trailing comma": ("bad.json", '[{"a": 1},]', ":1: field 'record': not JSON (a comma"),
    "one object": ("bad.json", '{"messages": []}', ":1: field 'record': expected a list of records"),
    "list of strings": ("bad.json", '["a", "b"]', ":1: field 'record': expected an object, found text"),
    "a number as a record": ("bad.jsonl", "[1]\n17\n", ":1: field 'record': expected an object, found a list"),
    "messages missing": ("bad.jsonl", [GOOD, {"id": 2}], ":2: field 'messages': is missing"),
    "messages empty": ("bad.jsonl", [chat()], ":1: field 'messages': is empty"),
    "messages a string": ("bad.jsonl", [{"messages": "hi"}], ":1: field 'messages': expected a list, found text"),
    "messages null": ("bad.jsonl", [{"messages": None}], ":1: field 'messages': expected a list, found null"),
    "a turn is text": ("bad.jsonl", [chat("hi")], ":1: field 'messages[0]': expected an object, found text"),
    "unknown role": ("bad.jsonl", [chat(Q, {"role": "narrator", "content": "x"})],
        "'messages[1].role': 'narrator' is not a known role"),
    "role a list": ("bad.jsonl", [chat({"role": ["user"], "content": "x"}, A)],
        "'messages[0].role': ['user'] is not a known role"),
    "no role": ("bad.jsonl", [chat(Q, {"content": "x"})], "'messages[1].role': the turn has no role"),
    "two answers of which one is learned": ("bad.jsonl", [chat(Q, A, {**A, "weight": 0})],
        "'messages[2]': of two assistant turns in a row"),
    "questions of two people": ("bad.jsonl", [chat({**Q, "name": "x"}, Q, A)],
        "'messages[1]': two user turns in a row have different names"),
    "an answer alone": ("bad.jsonl", [chat(A)], "'messages[0]': the answer comes before any question"),
    "assistant after system": ("bad.jsonl", [chat(S, A)], "'messages[1]': the answer comes before any question"),
    "a greeting and no answer": ("bad.jsonl", [chat(A, Q)], "'messages[1]': the last turn has the role user"),
    "only a system message": ("bad.jsonl", [chat(S)], "'messages[0]': the last turn has the role system"),
    "content null": ("bad.jsonl", [said(None)], "'messages[1].content': expected text, found null"),
    "content of no number": ("bad.jsonl", '{"instruction": "a", "output": NaN}\n',
        "'output': expected text, found nan"),
    "content a list": ("bad.jsonl", [said(["a"])],
        "'messages[1].content[0]': expected an object {type: text, text: ...}, found text"),
    "content an object": ("bad.jsonl", [said({"a": 1})], "'messages[1].content': expected text, found an object"),
    "content missing": ("bad.jsonl", [chat(Q, {"role": "assistant"})], "'messages[1].content': is missing"),
    "empty answer": ("bad.jsonl", [said("")], "'messages[1].content': is empty"),
    "an answer of spaces": ("bad.jsonl", [said(" \n\t ")], "'messages[1].content': is empty"),
    "a system message before a result": (
        "bad.jsonl", [chat(Q, A, S, {"role": "tool", "content": "1"}, A)],
        "'messages[3]': a system message comes between",
    ),
    "a user after a tool": ("bad.jsonl", [chat(Q, A, {"role": "tool", "content": "1"}, Q, A)],
        "a user turn follows a tool turn"),
    "a call without a name": ("bad.jsonl", [chat(Q, {"role": "assistant", "tool_calls": [{}]})],
        "messages[1].tool_calls[0].name': expected the name"),
    "an answer learned by half": ("bad.jsonl", [chat(Q, {**A, "weight": 0.5})],
        "'messages[1].weight': expected 0 or false"),
    "a preference pair": ("bad.jsonl", [{"conversations": [Q], "chosen": A, "rejected": A}],
        "field 'rejected': found a chosen/rejected pair"),
    "duplicate key": ("bad.jsonl", '{"messages": [], "messages": []}\n', ":1: field 'messages': the key is repeated"),
    "NUL": ("bad.jsonl", [said("a\0b")], "'messages[1].content': contains a NUL character"),
    "lone surrogate": ("bad.jsonl", [said("ab\ud83d")],
        r"'messages[1].content': contains half of a surrogate pair (\ud83d) at character 3"),
    "latin-1": ("bad.jsonl", '{"instruction": "a", "output": "é"}\n'.encode("latin-1"),
        ":1: field 'output': byte 0xE9 at character 1"),
    "latin-1 in CSV": ("bad.csv", "instruction,output\na,b\nc,é\n".encode("latin-1"),
        ":3: field 'output': byte 0xE9 at character 1"),
    "latin-1 in a list": ("bad.json", '[{"instruction": "é", "output": "b"}]'.encode("latin-1"),
        ":1: field 'instruction': byte 0xE9"),
    "no output": ("bad.json", [{"instruction": "a", "output": ""}], ":1: field 'output': is empty"),
    "output missing": ("bad.json", [{"instruction": "a"}], ":1: field 'output': is missing"),
    "input a list": ("bad.json", [{"instruction": "a", "input": [5], "output": "b"}],
        "'input': expected text, found a list"),
    "history no pairs": ("bad.json", [{"instruction": "a", "output": "b", "history": ["x"]}],
        "field 'history[0]': expected a pair of question"),
    "history no list": ("bad.json", [{"instruction": "a", "output": "b", "history": "x"}],
        "field 'history': expected a list"),
    "history with null": ("bad.json", [{"instruction": "a", "output": "b", "history": [["x", None]]}],
        "'history[0][1]': expected text"),
    "a short CSV line": ("bad.csv", "instruction,output\na\n", ":2: field 'output': is missing"),
    "fields of no format": ("bad.jsonl", [{"foo": 1, "bar": 2}],
        "no format has the fields of {foo: a number, bar: a number}; name them"),
    "sharegpt role": ("bad.json", [{"conversations": [{"from": "alien", "value": "x"}]}],
        "'conversations[0].from': 'alien' is not a known"),
}


def refused(config: File, stage: str = "sft") -> str:
    with pytest.raises(DataError) as caught:
        build_source(config, stage=stage, seed=1).check()
    return str(caught.value)


@pytest.mark.parametrize("name", BAD)
def test_one_line_with_file_place_field_and_reason(name: str, write: Write) -> None:
    file, content, expected = BAD[name]
    sentence = refused(File(path=[str(write(file, content))]))
    assert re.match(LINE, sentence), sentence
    assert expected in sentence


def test_there_are_more_than_thirty() -> None:
    assert len(BAD) > 30


def test_pre_training_without_its_text(write: Write) -> None:
    path = str(write("bad.jsonl", [{"text": "a"}, {"text": ""}, {"txt": "b"}]))
    assert "bad.jsonl:2: field 'text': is empty (and 1 more bad records)" in refused(File(path=[path]), "pt")
    path = str(write("bad.jsonl", [{"body": "a"}]))
    assert "data.columns={text: body}" in refused(File(path=[path]), "pt")


def test_the_stage_and_the_format_must_fit(write: Write) -> None:
    path = str(write("talk.jsonl", [GOOD]))
    sentence = f"{path} contains conversations (openai), but stage=pt expects running text; use stage=sft"
    assert refused(File(path=[path]), "pt").startswith(sentence)
    path = str(write("text.txt", "one\n"))
    sentence = f"{path} contains running text, but stage=sft expects answers to learn; use stage=pt."
    assert refused(File(path=[path])) == sentence


def test_columns(write: Write) -> None:
    path = str(write("data.jsonl", [{"question": "a", "answer": "b"}]))
    source = build_source(
        File(path=[path], columns={"instruction": "question", "output": "answer"}), stage="sft", seed=1
    )
    assert source.check().good == 1
    assert [m.content for m in next(iter(source.examples())).messages] == ["a", "b"]  # type: ignore[union-attr]
    absent = refused(File(path=[path], columns={"instruction": "question", "output": "answr"}))
    sentence = "field 'answr': data.columns reads output from this column, which is missing. Did you mean answer?"
    assert f"data.jsonl:1: {sentence}" in absent
    unknown = refused(File(path=[path], columns={"instructions": "question"}))
    assert "data.columns: no format has a field instructions. Did you mean instruction" in unknown
    text = build_source(File(path=[path], format=Format.text, columns={"text": "answer"}), stage="pt", seed=1)
    assert next(iter(text.examples())).text == "b"  # type: ignore[union-attr]


def test_bad_records_are_counted_and_tolerated_up_to_the_knob(write: Write) -> None:
    rows = [{"messages": [Q, A]} if n % 4 else said("") for n in range(40)]
    path = str(write("data.jsonl", rows))
    assert "data.jsonl:1: field 'messages[1].content': is empty (and 9 more bad records); " in refused(File(path=[path],
        max_drop=9))
    assert "data.max_drop=10" in refused(File(path=[path], max_drop=9))
    found = build_source(File(path=[path], max_drop=10), stage="sft", seed=1).check()
    assert (found.rows, found.good, len(found.bad)) == (40, 30, 10)
    assert [b.place.line for b in found.bad] == list(range(1, 41, 4))


def test_nothing_good_is_refused_whatever_is_tolerated(write: Write) -> None:
    assert "the only record is bad" in refused(File(path=[str(write("data.jsonl", [said("")]))], max_drop=5))


def test_no_path_and_wrong_weights(write: Write) -> None:
    assert "data=file needs data.path" in refused(File())
    path = str(write("data.jsonl", [GOOD]))
    assert "data.weights has 2 numbers, but data.path has 1 entries" in refused(File(path=[path], weights=[1.0, 2.0]))
    assert "is in data.path and in data.val_path" in refused(File(path=[path], val_path=[path]))


def test_the_command_prints_one_line_and_exits_with_2(write: Write, tmp_path: Path) -> None:
    path = write("bad.jsonl", [chat(Q)])
    words = ["train", "model=tiny", "data=file", f"data.path=[{path}]", f"run_dir={tmp_path / 'run'}"]
    done = subprocess.run(
        [sys.executable, "-m", "fulgurite", *words], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert (done.returncode, len(errors)) == (2, 1), done.stderr
    assert re.match(rf"^error: {re.escape(str(path))}:1: field 'messages\[0\]': the last turn has the role", errors[0])
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
