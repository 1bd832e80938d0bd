"""Records that no format reads: the line says what they look like and which `data.columns` reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fulgurite.data.build import build_source
from fulgurite.data.config import File
from fulgurite.data.suggest import describe_record, format_override
from fulgurite.errors import DataError

Write = Callable[[str, Any], Path]
Q, A = {"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}

SUGGESTED: dict[str, tuple[str, Any, dict[str, str]]] = {
    "question and answer": ("sft", {"question": "a", "answer": "b"}, {"instruction": "question", "output": "answer"}),
    "query and response": ("sft", {"query": "a", "response": "b"}, {"instruction": "query", "output": "response"}),
    "a misspelt name": ("sft", {"Instruction": "a", "ouput": "b"}, {"instruction": "Instruction", "output": "ouput"}),
    "names of nobody": ("sft", {"foo": "a", "bar": "b"}, {"instruction": "foo", "output": "bar"}),
    "a talk": ("sft", {"dialogue": [Q, A], "id": 1}, {"messages": "dialogue"}),
    "a prompt and an answer": ("sft", {"prompt": "a", "answer": "b"}, {"instruction": "prompt", "output": "answer"}),
    "an empty instruction": ("sft", {"instruction": "", "question": "a", "output": "b"}, {"instruction": "question"}),
    "a body": ("pt", {"title": "a", "body": "b"}, {"text": "body"}),
    "better and worse": (
        "dpo", {"question": "a", "better": "b", "worse": "c"},
        {"prompt": "question", "chosen": "better", "rejected": "worse"},
    ),
    "chosen response": (
        "dpo", {"instruction": "a", "chosen_response": "b", "rejected_response": "c"},
        {"prompt": "instruction", "chosen": "chosen_response", "rejected": "rejected_response"},
    ),
    "two answers in a list": (
        "dpo", {"instruction": "a", "input": "b", "output": ["c", "d"]}, {"chosen": "output.0", "rejected": "output.1"},
    ),
    "a thumb": ("kto", {"prompt": "a", "reply": "b", "thumbs_up": 1}, {"completion": "reply", "label": "thumbs_up"}),
    "an envelope": ("sft", {"custom_id": "1", "body": {"model": "m", "messages": [Q, A]}},
        {"messages": "body.messages"}),
    "OpenAI's pairs": (
        "dpo", {"input": {"messages": [Q], "tools": []}, "preferred_output": [A],
            "non_preferred_output": [{**A, "content": "x"}]},
        {"prompt": "input.messages", "chosen": "preferred_output", "rejected": "non_preferred_output",
            "tools": "input.tools"},
    ),
    "SQuAD": (
        "sft", {"id": "1", "title": "t", "context": "c", "question": "q",
            "answers": {"text": ["a"], "answer_start": [0]}},
        {"instruction": "question", "output": "answers.text.0", "input": "context"},
    ),
    "a system prompt": (
        "sft", {"id": "1", "system_prompt": "s", "question": "q", "response": "a"},
        {"instruction": "question", "output": "response", "system": "system_prompt"},
    ),
    "reasoning apart": (
        "sft", {"Question": "q", "Complex_CoT": "t", "Response": "a"},
        {"instruction": "Question", "output": "Response", "reasoning_content": "Complex_CoT"},
    ),
    "keys of a turn": (
        "sft", {"dialogue": [{"speaker": "user", "text": "q"}, {"speaker": "assistant", "text": "a"}]},
        {"messages": "dialogue", "role": "speaker", "content": "text"},
    ),
    "Gemini": (
        "sft", {"systemInstruction": {"parts": [{"text": "s"}]}, "contents": [
            {"role": "user", "parts": [{"text": "q"}]}, {"role": "model", "parts": [{"text": "a"}]},
        ]}, {"messages": "contents", "content": "parts", "system": "systemInstruction.parts"},
    ),
    "exchanges": ("sft", {"source": "x", "conversation": [{"input": "a", "output": "b"}]},
        {"messages": "conversation"}),
    "a problem": ("grpo", {"problem": "a", "solution": "b"}, {"prompt": "problem"}),
}


@pytest.mark.parametrize("name", SUGGESTED)
def test_the_nearest_columns_are_named_and_read_the_file(name: str, write: Write) -> None:
    stage, record, columns = SUGGESTED[name]
    path = str(write("a.jsonl", [record] * 3))
    with pytest.raises(DataError) as caught:
        build_source(File(path=[path]), stage=stage, seed=1).check()
    assert format_override(columns) in str(caught.value)
    assert "max_drop" not in str(caught.value)
    assert build_source(File(path=[path], columns=columns), stage=stage, seed=1).check().good == 3


def test_where_all_records_are_bad_none_is_to_be_dropped(write: Write) -> None:
    path = str(write("a.jsonl", [{"messages": [Q]} for _ in range(60)]))
    for most in (0, 60, 100):
        with pytest.raises(DataError) as caught:
            build_source(File(path=[path], max_drop=most), stage="sft", seed=1).check()
        assert str(caught.value) == (
            f"{path}:1: field 'messages[0]': the last turn has the role user: there is no answer to learn; all 60 "
            "records are bad. The first record is {messages: a list of {role, content}}, read as openai (stage=sft "
            "reads alpaca, openai, sharegpt); correct them."
        )


def test_columns_that_hide_the_question_are_named(write: Write) -> None:
    path = str(write("a.jsonl", [{"instruction": "a", "output": "b"}]))
    with pytest.raises(
        DataError, match=r"with data\.columns=\{output: instruction\}; leave data\.columns out, or set data\.format"
    ):
        build_source(File(path=[path], columns={"output": "instruction"}), stage="sft", seed=1)


def test_max_drop_is_offered_where_good_records_remain(write: Write) -> None:
    path = str(write("a.jsonl", [*[{"messages": [Q]}] * 59, {"messages": [Q, A]}]))
    with pytest.raises(DataError,
        match=r"\(and 58 more bad records\); correct the data, or leave bad records out with data\.max_drop=59\."):
        build_source(File(path=[path]), stage="sft", seed=1).check()
    assert build_source(File(path=[path], max_drop=59), stage="sft", seed=1).check().good == 1


def test_a_record_is_described_in_a_bounded_line() -> None:
    assert str(describe_record({"a": "x", "b": [1, 2], "c": [], "d": None})) == (
        "{a: text, b: a list, the first item is a number, c: a list, d: null}"
    )
    assert str(describe_record([1])) == "a list"
    assert len(str(describe_record({f"{'k' * 10_000}{n}": 1 for n in range(10_000)}))) < 1200
    assert format_override({"instruction": "my question",
        "output": "a"}) == "data.columns={instruction: 'my question', output: a}"


@pytest.mark.parametrize(("stage", "record", "said"), [
    ("sft", {"segments": [{"label": True, "text": "a"}]}, "write each as a turn of messages, with train: false"),
    ("sft", {"text": "a", "role": "prompter", "parent_id": None}, "found one turn per record (role and text)"),
    ("pt", {"content": "a", "role": "user"}, "found one turn per record (role and content)"),
    ("rm", {"prompt": "a", "completions": ["b"], "labels": [True]}, "process reward model"),
    ("sft", {"prompt": "a", "chosen": "b", "rejected": "c"},
        "{instruction: prompt, output: chosen} learns the chosen answers"),
    ("sft", {"chosen": [Q, A], "rejected": [Q, A], "messages": [Q, A]},
        "data.columns={messages: chosen} learns the chosen answers only"),
])
def test_records_of_other_tools_are_explained(stage: str, record: Any, said: str, write: Write) -> None:
    with pytest.raises(DataError) as caught:
        build_source(File(path=[str(write("a.jsonl", [record] * 2))]), stage=stage, seed=1).check()
    assert said in str(caught.value)
