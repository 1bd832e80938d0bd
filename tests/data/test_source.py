"""Records as conversations: each format by its fields, tool use, and the real files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fulgurite.data.build import build_source
from fulgurite.data.config import File, Guide, Packing
from fulgurite.data.dataset import split_dataset
from fulgurite.data.example import Conversation, Example, Message
from fulgurite.data.report import DataReport
from fulgurite.data.sample_prompts import choose_sample_prompts
from fulgurite.data.source import Source
from fulgurite.data.template import load_template
from fulgurite.data.tokenized import tokenize_source
from fulgurite.errors import DataError

Write = Callable[[str, Any], Path]
U, A, S, T = (lambda text, role=role: Message(role, text) for role in ("user", "assistant", "system", "tool"))
TOOLS = '[{"name": "f"}]'
TOOL = {"type": "function", "function": {"name": "f"}}
CALL = Message("assistant", "", ({"type": "function", "function": {"name": "f", "arguments": {"x": 1}}},))

SAME: dict[str, tuple[Any, list[Message]]] = {
    "alpaca": ({"instruction": "a", "output": "b"}, [U("a"), A("b")]),
    "alpaca with input": ({"instruction": "a", "input": "x", "output": "b"}, [U("a\nx"), A("b")]),
    "alpaca with blanks": ({"instruction": "a", "input": " ", "system": "", "history": [], "output": "b"},
        [U("a"), A("b")]),
    "alpaca with all": (
        {"instruction": "a", "input": None, "output": "b", "system": "s", "history": [["c", "d"], ["e", "f"]]},
        [S("s"), U("c"), A("d"), U("e"), A("f"), U("a"), A("b")],
    ),
    "prompt and response": ({"prompt": "a", "response": "b"}, [U("a"), A("b")]),
    "sharegpt": (
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "system": "s"},
        [S("s"), U("a"), A("b")],
    ),
    "sharegpt system turn": (
        {"conversations": [{"from": "system", "value": "s"}, {"from": "user", "value": "a"},
            {"from": "assistant", "value": "b"}]},
        [S("s"), U("a"), A("b")],
    ),
    "sharegpt tools": (
        {"tools": TOOLS, "conversations": [{"from": f, "value": v} for f, v in
         (("human", "a"), ("function_call", '{"name": "f", "arguments": {"x": 1}}'), ("observation", "1"),
             ("gpt", "b"))]},
        [U("a"), CALL, T("1"), A("b")],
    ),
    "openai": (
        {"messages": [{"role": r, "content": c} for r, c in (("developer", "s"), ("user", "a"), ("assistant", "b"))]},
        [S("s"), U("a"), A("b")],
    ),
    "openai tools": (
        {"tools": [{"name": "f"}], "messages": [
            {"role": "system", "content": "s"}, {"role": "user", "content": "a"},
            {"role": "assistant", "content": None,
                "tool_calls": [{"function": {"name": "f", "arguments": '{"x": 1}'}}]},
            {"role": "tool", "content": "1"}, {"role": "assistant", "content": "b"}]},
        [S("s"), U("a"), CALL, T("1"), A("b")],
    ),
    "names crossed": ({"conversations": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
        [U("a"), A("b")]),
}


def examples(source: Source) -> list[Example]:
    found = list(source.examples())
    assert all(isinstance(e, Example) for e in found), found
    return found  # type: ignore[return-value]


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_each_format_is_detected_and_read_whole(name: str, kind: str, write: Write, tmp_path: Path) -> None:
    record, expected = SAME[name]
    path = write("a.jsonl", [record])
    if kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = tmp_path / "a.parquet"
        pq.write_table(pa.Table.from_pylist([{k: v for k, v in record.items() if v != []}]), path)
    source = build_source(File(path=[str(path)]), stage="sft", seed=1)
    assert source.check().unread == {}
    tools = (TOOL,) if "tools" in name else ()
    assert [e.messages for e in examples(source)] == [Conversation(tuple(expected), tools)]


def test_files_of_several_formats_are_mixed_and_named(write: Write) -> None:
    paths = [write("a.jsonl", [SAME["alpaca"][0]]), write("b.json", [SAME["sharegpt"][0]]),
        write("c.csv", "prompt,response,n\na,b,1\n")]
    source = build_source(File(path=[str(p) for p in paths]), stage="sft", seed=1)
    found = source.check()
    assert source.format == "alpaca, sharegpt"
    assert [(str(e.place).rpartition("/")[2], e.file) for e in examples(source)] == [
        ("a.jsonl:1", 0), ("b.json:1", 1), ("c.csv:2", 2)
    ]
    assert str(found.describe(source)) == "3 records in 3 file(s), format alpaca, sharegpt; not read: n (in 1)"


REAL = {
    "alpaca_en_demo.json": ("sft", 999, "alpaca", {}), "identity.json": ("sft", 91, "alpaca", {}),
    "glaive_toolcall_en_demo.json": ("sft", 300, "sharegpt", {}),
    "kto_en_demo.json": ("sft", 300, "openai", {"label": 300}),
    "c4_demo.jsonl": ("pt", 300, "text", {}), "wiki_demo.txt": ("pt", 30, "text", {}),
}


@pytest.mark.parametrize("name", REAL)
def test_real_files(name: str, real_data: Callable[[str], Path], tokenizer: Any, tmp_path: Path) -> None:
    stage, count, format, unread = REAL[name]
    config = File(path=[str(real_data(name))])
    source = build_source(config, stage=stage, seed=1)
    found = source.check()
    assert (found.rows, found.good, found.bad, source.format, dict(found.unread)) == (count, count, [], format, unread)
    encoded = tokenize_source(source, tokenizer, load_template(None, tokenizer), config, tmp_path)
    rows, val, report = split_dataset(encoded, config, 1, 2048, Packing.best_fit if stage == "pt" else Packing.none)
    assert report.balanced
    assert len(rows) == report.rows_an_epoch > 0
    assert val is not None
    assert int(rows.label_counts.min()) > 0
    assert report.answers_missed == 0


def test_the_guide_has_a_held_out_part_and_questions_of_its_own(tokenizer: Any, tmp_path: Path) -> None:
    config = Guide()
    source = build_source(config, stage="sft", seed=1)
    found = source.check()
    rows, val, report = split_dataset(
        tokenize_source(source, tokenizer, load_template(None, tokenizer), config, tmp_path),
        config,
        1,
        4096,
        Packing.none,
    )
    assert found.rows == len(rows) + len(val or ()) == report.rows_in
    assert {p.rpartition("/")[2].partition(":")[0] for i in range(len(val or ())) for p in val.places(i)} == {
        "heldout.jsonl"
    }  # type: ignore[union-attr]
    asked = choose_sample_prompts(None, source, val)
    assert len(asked) == 5
    assert all(isinstance(q, str) for q in asked)


def test_names_and_values_without_end_make_short_lines(tmp_path: Path) -> None:
    big = "k" * 1_000_000
    many = {f"key {n}": 1 for n in range(3000)}
    good = {"instruction": "q", "output": "a"}
    (tmp_path / "unread.jsonl").write_text(json.dumps({**good, big: 1}) + "\n" + json.dumps({**good, **many}) + "\n")
    source = build_source(File(path=[str(tmp_path / "unread.jsonl")]), stage="sft", seed=0)
    checked = source.check()
    assert len(str(checked.describe(source))) < 600
    assert len(checked.unread) == 1001
    assert checked.unread["(other fields)"] == 2001
    report = DataReport("alpaca", [], unread_fields=dict(checked.unread))
    assert "and 981 more" in str(report.describe())
    assert len(str(report.describe())) < 600
    twice = f'{{"{big}": 1, "{big}": 2}}'
    for name, text in {"twice": twice, "strange": json.dumps({big: 1}), "many": json.dumps(many)}.items():
        (tmp_path / f"{name}.jsonl").write_text(text + "\n")
        with pytest.raises(DataError) as caught:
            build_source(File(path=[str(tmp_path / f"{name}.jsonl")]), stage="sft", seed=0).check()
        assert len(str(caught.value)) < 1000, name
    (tmp_path / "head.csv").write_text(f"{big},{big}\n1,2\n")
    with pytest.raises(DataError, match="two columns have this name") as caught:
        build_source(File(path=[str(tmp_path / "head.csv")]), stage="sft", seed=0)
    assert len(str(caught.value)) < 1000
