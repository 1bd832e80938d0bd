"""Pairs and judged answers: every form that people have, and what is wrong with a record in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.data.made_records import Write
from tests.data.preference_records import PAIR, TURNS, A, B, Q, S, examples

from fulgurite.data.build import build_source
from fulgurite.data.config import File, Format
from fulgurite.data.example import Bad, Conversation, Message
from fulgurite.errors import DataError

HEADED = (Message("system", "be brief"), *TURNS)
LONG = (Message("user", "a"), Message("assistant", "b"), *TURNS)
PAIRS: dict[str, tuple[dict[str, Any], tuple[Message, ...]]] = {
    "text": (PAIR, TURNS),
    "messages": ({"prompt": [S, Q], "chosen": [A], "rejected": [B]}, HEADED),
    "one message a side": ({"prompt": [Q], "chosen": A, "rejected": B}, TURNS),
    "the prompt inside both": ({"chosen": [S, Q, A], "rejected": [S, Q, B]}, HEADED),
    "the prompt given and inside both": ({"prompt": "question", "chosen": [Q, A], "rejected": [Q, B]}, TURNS),
    "LLaMA-Factory's ranking": (
        {"conversations": [{"from": "human", "value": "question"}], "chosen": {"from": "gpt", "value": "good"},
         "rejected": {"from": "gpt", "value": "bad"}}, TURNS,
    ),
    "alpaca's fields": ({"instruction": "question", "input": "", "chosen": "good", "rejected": "bad"}, TURNS),
    "a system text beside": ({**PAIR, "system": "be brief"}, HEADED),
    "several turns": (
        {"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, Q], "chosen": "good",
            "rejected": "bad"}, LONG,
    ),
}
JUDGED: dict[str, tuple[dict[str, Any], bool]] = {
    "prompt and completion": ({"prompt": "question", "completion": "good", "label": True}, True),
    "messages": ({"messages": [Q, A], "label": False}, False),
    "completion as messages": ({"prompt": [Q], "completion": [A], "label": True}, True),
    "alpaca": ({"instruction": "question", "output": "good", "label": False}, False),
    "sharegpt": ({"conversations": [{"from": "human", "value": "question"}, {"from": "gpt", "value": "good"}],
        "label": True}, True),
}


@pytest.mark.parametrize("form", PAIRS)
def test_every_form_of_a_pair(form: str, write: Write) -> None:
    record, expected = PAIRS[form]
    format, example = examples(write, record, "dpo")
    assert format == "preference"
    assert example.messages == Conversation(expected)
    assert example.rejected == Conversation((*expected[:-1], Message("assistant", "bad")))


@pytest.mark.parametrize("form", JUDGED)
def test_every_form_of_a_judged_answer(form: str, write: Write) -> None:
    record, good = JUDGED[form]
    format, example = examples(write, record, "kto")
    assert (format, example.messages, example.good, example.rejected) == ("kto", Conversation(TURNS), good, None)


BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "no rejected": ("dpo", {**PAIR, "rejected": None}, "field 'rejected': expected text, found null"),
    "chosen empty": ("dpo", {**PAIR, "chosen": " \n"}, "field 'chosen': is empty"),
    "rejected no messages": ("dpo", {**PAIR, "rejected": []}, "field 'rejected': is empty"),
    "equal sides": ("dpo", {**PAIR, "rejected": "good "}, "field 'rejected': is the same text as chosen"),
    "differing prompts": ("dpo", {"chosen": [Q, A], "rejected": [{**Q, "content": "other"}, B]},
        "'rejected': its prompt differs"),
    "one side with its prompt": ("dpo", {"prompt": [Q], "chosen": [Q, A], "rejected": [B]},
        "'rejected': its prompt differs from that"),
    "another prompt beside": ("dpo", {"prompt": "x", "chosen": [Q, A], "rejected": [Q, B]},
        "field 'prompt': differs from the prompt at the beginning"),
    "no prompt": ("dpo", {"chosen": "good", "rejected": "bad"},
        "field 'prompt': is missing, and chosen and rejected do not begin"),
    "prompt of bytes": ("dpo", {**PAIR, "prompt": {"text": 7}}, "field 'prompt[0].role': the turn has no role"),
    "prompt of no messages": ("dpo", {**PAIR, "prompt": []}, "field 'prompt': is empty"),
    "prompt that ends with an answer": ("dpo", {**PAIR, "prompt": [Q, A]},
        "field 'chosen': the prompt ends with an answer"),
    "a side that ends with a question": ("dpo", {**PAIR, "chosen": [Q]},
        "field 'chosen[0]': the last turn has the role user"),
    "unknown role": ("dpo", {**PAIR, "chosen": [{"role": "x", "content": "y"}]},
        "field 'chosen[0].role': 'x' is not a known role"),
    "ranking without a conversation": ("dpo", {"conversations": [], "chosen": A, "rejected": B},
        "field 'conversations': is empty"),
    "a margin of text": ("rm", {**PAIR, "margin": "much"}, "field 'margin': expected a number, found text ('much')"),
    "a negative margin": ("rm", {**PAIR, "margin": -1}, "field 'margin': expected a finite number of at least 0"),
    "label text": ("kto", {"messages": [Q, A], "label": "good"},
        "field 'label': expected true or false (or 1 and 0, yes and no), found text ('good')"),
    "label a number": ("kto", {"messages": [Q, A], "label": 2},
        "field 'label': expected true or false (or 1 and 0, yes and no), found a number (2)"),
    "an answer flagged as not learned": ("kto", {"messages": [Q, {**A, "weight": 0}], "label": 1},
        "field 'messages': the answer to compare is flagged as not learned"),
    "label null": ("kto", {"messages": [Q, A], "label": None},
        "field 'label': expected true or false (or 1 and 0, yes and no), found null"),
    "empty completion": ("kto", {"prompt": "question", "completion": "", "label": True},
        "field 'completion': is empty"),
    "no prompt to judge by": ("kto", {"completion": "good", "label": True}, "field 'prompt': is missing"),
    "judged question": ("kto", {"messages": [Q], "label": True},
        "field 'messages[0]': the last turn has the role user"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_is_one_line_with_place_field_and_reason(name: str, write: Write) -> None:
    stage, record, said = BAD[name]
    good = PAIR if stage != "kto" else {"messages": [Q, A], "label": True}
    path = write("bad.jsonl", [good, record])
    with pytest.raises(DataError) as caught:
        build_source(File(path=[str(path)]), stage=stage, seed=1).check()
    assert str(caught.value).startswith(f"{path}:2: {said}" if said.startswith("field") else f"{path}:2: field {said}")
    assert "\n" not in str(caught.value)


def test_more_than_twenty_bad_records_are_tried() -> None:
    assert len(BAD) > 20


HH = "\n\nHuman: {}\n\nAssistant: {}"
HH_FORMS: dict[str, dict[str, Any]] = {
    "the prompt inside both": {"chosen": HH.format("question", "good"), "rejected": HH.format("question", "bad")},
    "the prompt given as well": {
        "prompt": HH.format("question", ""), "chosen": HH.format("question", "good"),
        "rejected": HH.format("question", "bad"),
    },
    "only the prompt in this form": {"prompt": HH.format("question", ""), "chosen": " good", "rejected": " bad"},
    "null beside": {"prompt": None, "chosen": HH.format("question", "good"), "rejected": HH.format("question", "bad")},
}


@pytest.mark.parametrize("form", HH_FORMS)
def test_hh_pairs_share_their_beginning_as_the_prompt(form: str, write: Write) -> None:
    _, example = examples(write, HH_FORMS[form], "dpo")
    assert [(m.role, m.content.strip()) for m in example.messages] == [("user", "question"), ("assistant", "good")]
    assert [(m.role, m.content.strip()) for m in example.rejected] == [("user", "question"), ("assistant", "bad")]


def test_an_answer_that_is_itself_a_dialogue_stays_one_answer(write: Write) -> None:
    answers = {"chosen": HH.format("question", "good"), "rejected": HH.format("question", "bad")}
    _, example = examples(write, {"prompt": "write a dialogue", **answers}, "dpo")
    assert [m.content for m in example.messages] == ["write a dialogue", answers["chosen"]]


def test_hh_pairs_of_several_turns(write: Write) -> None:
    before = HH.format("a", "b") + "\n\nHuman: question\nHuman: is no mark here"
    pair = {side: f"{before}\n\nAssistant: {answer}" for side, answer in (("chosen", "good"), ("rejected", "bad"))}
    _, example = examples(write, pair, "rm")
    assert [m.content for m in example.messages] == ["a", "b", "question\nHuman: is no mark here", "good"]
    other = {**pair, "rejected": HH.format("a", "c") + "\n\nHuman: question\n\nAssistant: bad"}
    with pytest.raises(DataError, match="'rejected': its prompt differs from that of chosen"):
        build_source(File(path=[str(write("b.jsonl", [other]))]), stage="rm", seed=1).check()


CELLS = {
    "True": True, "False": False, "true": True, "0": False, "1": True, "yes": True, "No": False, " 1 ": True,
    "1.0": True,
}


def test_labels_and_margins_of_a_csv_file(write: Write) -> None:
    path = write("a.csv", "prompt,completion,label\n" + "".join(f"question,good,{cell}\n" for cell in CELLS))
    source = build_source(File(path=[str(path)]), stage="kto", seed=1)
    assert source.check().unread == {}
    assert [example.good for example in source.examples()] == list(CELLS.values())  # type: ignore[union-attr]
    path = write("b.csv", "prompt,chosen,rejected,margin\nquestion,good,bad,1.5\nquestion,good,bad,\n")
    pairs = build_source(File(path=[str(path)]), stage="rm", seed=1)
    assert pairs.check().good == 2
    assert [example.margin for example in pairs.examples()] == [1.5, 0.0]  # type: ignore[union-attr]


def test_labels_of_numbers(write: Write) -> None:
    path = write("a.jsonl", [{"prompt": "question", "completion": "good", "label": label}
        for label in (1, 0, True, 0.0)])
    source = build_source(File(path=[str(path)]), stage="kto", seed=1)
    assert [example.good for example in source.examples()] == [True, False, True, False]  # type: ignore[union-attr]


def test_calls_are_compared_and_keep_their_structure(write: Write) -> None:
    sides = {
        side: [{"role": "assistant", "content": None, "tool_calls": [{"function": {"name": name, "arguments": "{}"}}]}]
        for side, name in (("chosen", "f"), ("rejected", "g"))
    }
    _, example = examples(write, {"prompt": [Q], **sides, "tools": [{"name": "f"}, {"name": "g"}]}, "dpo")
    names = [messages[-1].tool_calls[0]["function"]["name"] for messages in (example.messages, example.rejected)]
    assert names == ["f", "g"]
    assert len(example.messages.tools) == len(example.rejected.tools) == 2
    same = {"prompt": [Q], "chosen": sides["chosen"], "rejected": sides["chosen"]}
    with pytest.raises(DataError, match="'rejected': is the same text as chosen"):
        build_source(File(path=[str(write("b.jsonl", [same]))]), stage="dpo", seed=1).check()


def test_columns_and_a_format_that_is_named(write: Write) -> None:
    path = str(write("a.jsonl", [{"q": "question", "yes": "good", "no": "bad", "kto_tag": True}]))
    columns = {"prompt": "q", "chosen": "yes", "rejected": "no"}
    source = build_source(File(path=[path], columns=columns), stage="dpo", seed=1)
    assert next(iter(source.examples())).messages == Conversation(TURNS)  # type: ignore[union-attr]
    columns = {"prompt": "q", "completion": "yes", "label": "kto_tag"}
    judged = build_source(File(path=[path], format=Format.kto, columns=columns), stage="kto", seed=1)
    assert next(iter(judged.examples())).good is True  # type: ignore[union-attr]
    with pytest.raises(DataError, match=r"data\.columns=\{prompt: q, chosen: yes, rejected: no\}"):
        build_source(File(path=[path]), stage="dpo", seed=1)


@pytest.mark.parametrize(("file", "stage"),
    [("dpo_en_demo.json", "dpo"), ("dpo_en_demo.json", "rm"), ("kto_en_demo.json", "kto")])
def test_real_files(file: str, stage: str, real_data: Callable[[str], Path]) -> None:
    source = build_source(File(path=[str(real_data(file))]), stage=stage, seed=1)
    assert source.check().good >= 299
    assert not [e for e in source.examples() if isinstance(e, Bad)]
