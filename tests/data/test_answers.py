"""Each answer is learned behind the prompt that it has at inference, whatever the template does to earlier turns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.data.made_templates import STYLES, made

from fulgurite.data.answers import REASONING_LEFT_OUT
from fulgurite.data.build import build_source
from fulgurite.data.config import File, Packing
from fulgurite.data.dataset import split_dataset
from fulgurite.data.example import Conversation, Message
from fulgurite.data.template import Template, load_template
from fulgurite.data.tokenized import tokenize_source
from fulgurite.errors import DataError

Write = Callable[[str, Any], Path]
TOOL = {"type": "function",
    "function": {"name": "weather", "description": "w", "parameters": {"type": "object", "properties": {}}}}
CALL = {"type": "function", "id": "abcdefghi", "function": {"name": "weather", "arguments": {"city": "Bern"}}}
TALK = Conversation((
    Message("system", "Be brief."), Message("user", "How is Bern?"), Message("assistant", "", (CALL,)),
    Message("tool", "blue", name="weather", call_id="abcdefghi"), Message("assistant", "Blue."),
    Message("user", "And now?"), Message("assistant", "Still blue."),
), (TOOL,))
THINK = [
    Message("user", "1?"), Message("assistant", "2.", reasoning="one and one"),
    Message("user", "3?"), Message("assistant", "4.", reasoning="three and one"),
]
OPENS = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ 'U:' + m.content }}{% else %}"
    "{{ 'A:' + m.content.split('</think>')[-1] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'A:<think>\\n' }}{% endif %}"
)


def learned(template: Template, ids: list[int], learn: list[bool]) -> list[str]:
    """The learned stretches of a row, as text."""
    stretches: list[list[int]] = []
    for i, (token, on) in enumerate(zip(ids, learn, strict=True)):
        if on:
            stretches += [] if i and learn[i - 1] else [[]]
            stretches[-1].append(token)
    return [template.tokenizer.decode(stretch) for stretch in stretches]


@pytest.mark.parametrize("style", sorted(STYLES))
def test_what_precedes_each_learned_answer_is_what_transformers_writes(style: str, make_tokenizer: Any) -> None:
    text, marks = STYLES[style]
    tokenizer = make_tokenizer(marks, llama3=style == "llama3.1")
    tokenizer.chat_template = text
    template = load_template(None, tokenizer)
    answers = [i for i, m in enumerate(TALK) if m.role == "assistant"]
    before = []
    for row in template.encode_rows(TALK, "answers"):
        before += [row.ids[:i] for i in range(len(row.ids)) if row.learn[i] and not row.learn[i - 1]]
    assert before == [
        template.tokenizer.apply_chat_template(
            template.dialect.turns(TALK[:i])[0], tools=[TOOL], add_generation_prompt=True,
        )["input_ids"] for i in answers
    ]


def test_a_template_that_leaves_out_earlier_reasoning_makes_a_row_of_each_answer(make_tokenizer: Any) -> None:
    template = made(STYLES["qwen3"][0], make_tokenizer)
    rows = template.encode_rows(THINK, "answers")
    assert [learned(template, row.ids, row.learn) for row in rows] == [
        ["<think>\none and one\n</think>\n\n2.<|im_end|>"], ["<think>\nthree and one\n</think>\n\n4.<|im_end|>"],
    ]
    assert "one and one" not in template.tokenizer.decode(rows[1].ids)
    with pytest.raises(DataError, match=r"2 rows, one per answer; set data\.mask=last"):
        template.encode_chat(THINK, "answers")
    assert template.encode_chat(THINK, "last") == (rows[1].ids, rows[1].learn)


def test_arguments_reach_the_template(make_tokenizer: Any) -> None:
    template = made(STYLES["qwen3"][0], make_tokenizer, enable_thinking=False)
    plan = template.plan(THINK[:2], "answers")
    assert plan.texts[-1].endswith("assistant\n<think>\n\n</think>\n\n2.<|im_end|>\n")
    assert plan.flags == REASONING_LEFT_OUT
    assert template.encode_prompt(THINK[:1]) == template.tokenizer.apply_chat_template(
        [{"role": "user", "content": "1?"}], add_generation_prompt=True, enable_thinking=False,
    )["input_ids"]


@pytest.mark.parametrize(("answer", "said"), [
    (Message("assistant", "2."), "\n</think>\n\n2.</s>"),
    (Message("assistant", "2.", reasoning="one and one"), "one and one\n</think>\n\n2.</s>"),
    (Message("assistant", "<think>\none and one\n</think>\n\n2."), "one and one\n</think>\n\n2.</s>"),
])
def test_a_prompt_that_opens_the_reasoning_is_answered_by_reasoning_that_is_closed(
    answer: Message, said: str, make_tokenizer: Any
) -> None:
    template = made(OPENS, make_tokenizer)
    ids, learn = template.encode_chat([THINK[0], answer], "answers")
    assert learned(template, ids, learn) == [said]
    assert ids[: learn.index(True)] == template.encode_prompt(THINK[:1])


def test_a_head_that_differs_at_inference_leaves_the_content_and_the_end(make_tokenizer: Any) -> None:
    text = "{% for m in messages %}{{ m.role + ': ' + m.content + eos_token }}{% endfor %}"
    text += "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
    template = made(text, make_tokenizer)
    ids, learn = template.encode_chat([*THINK[:1], Message("assistant", "2.")], "answers")
    assert template.tokenizer.decode(ids) == "user: 1?</s>ASSISTANT:2.</s>"
    assert learned(template, ids, learn) == ["2.</s>"]


@pytest.mark.parametrize("mask", ["answers", "all"])
@pytest.mark.parametrize("masked", [1, 3])
def test_a_turn_that_is_not_learned_is_masked(mask: str, masked: int, tokenizer: Any) -> None:
    template = load_template("chatml", tokenizer)
    talk = [Message(m.role, m.content, learned=i != masked) for i, m in enumerate(THINK)]
    ids, learn = template.encode_chat(talk, mask)
    whole, _ = template.encode_chat([Message(m.role, m.content) for m in THINK], mask)
    assert ids == whole
    said = "".join(learned(template, ids, learn))
    assert THINK[4 - masked].content in said
    assert THINK[masked].content not in said
    assert ("1?" in said) == (mask == "all")


def test_a_template_that_writes_only_the_first_call_is_refused(make_tokenizer: Any) -> None:
    text = STYLES["qwen2.5"][0].replace("for call in message.tool_calls", "for call in message.tool_calls[:1]")
    template = made(text, make_tokenizer)
    template.encode_chat(TALK, "answers")
    two = Conversation((*TALK[:2], Message("assistant", "", (CALL, CALL)), *TALK[3:]), TALK.tools)
    with pytest.raises(DataError, match="only 1 of the calls"):
        template.encode_chat(two, "answers")


def test_a_template_that_escapes_text_is_accepted(make_tokenizer: Any) -> None:
    text, marks = STYLES["llama3.1"]
    talk = Conversation(
        (*TALK[:3], Message("tool", '{"sky": "blue"}', name="weather", call_id="abcdefghi"), TALK[4]), TALK.tools
    )
    ids, _ = made(text, make_tokenizer, marks).encode_chat(talk, "answers")
    assert len(ids) > 0
    html = "{% for m in messages %}{{ m.role + ':' }}{{ m.content | e }}{{ eos_token }}{% endfor %}"
    html += "{% if add_generation_prompt %}assistant:{% endif %}"
    made(html, make_tokenizer).encode_chat([Message("user", "a < b?"), Message("assistant", "a & b")], "answers")


@pytest.mark.parametrize("cut", ["m.content[:3]", "m.content[3:]"])
def test_a_template_that_writes_a_part_of_a_message_is_refused(cut: str, make_tokenizer: Any) -> None:
    content = f"({cut} if m.role == 'user' else m.content)"
    text = "{% for m in messages %}{{ m.role + ':' + " + content + " + eos_token }}{% endfor %}"
    template = made(text + "{% if add_generation_prompt %}assistant:{% endif %}", make_tokenizer)
    with pytest.raises(DataError, match="leaves out the content of a user message"):
        template.encode_chat([Message("user", "Hello there"), Message("assistant", "Yes")], "answers")


# -- the report --------------------------------------------------------------------------------------------------------


def thinking(count: int) -> list[dict[str, Any]]:
    """Conversations whose second answer is long in every third."""
    return [
        {"messages": [
            {"role": "user", "content": f"q {n}?"}, {"role": "assistant", "content": f"<think>\nt {n}\n</think>\n\na"},
            {"role": "user", "content": "more?"}, {"role": "assistant", "content": "b " * (60 if n % 3 == 0 else 1)},
        ]} for n in range(count)
    ]


@pytest.fixture
def cut(write: Write, make_tokenizer: Any, tmp_path: Path) -> Callable[..., Any]:
    def make(records: list[Any], max_length: int, **more: Any) -> Any:
        template = made(STYLES["qwen3"][0], make_tokenizer)
        config = File(path=[str(write("a.jsonl", records))], **more)
        encoded = tokenize_source(
            build_source(config, stage="sft", seed=1), template.tokenizer, template, config, tmp_path / "cache"
        )
        rows, val, report = split_dataset(encoded, config, 1, max_length, Packing.none)
        assert report.balanced
        return rows, val, report

    return make


def test_the_report_counts_records_and_their_rows(cut: Any) -> None:
    rows, val, report = cut(thinking(9), 1000, val_fraction=0.0)
    assert val is None
    assert (report.rows_in, report.trained, len(rows)) == (9, 9, 18)
    assert (report.split_records, report.split_rows, report.split_tokens) == (9, 18, int(rows.lengths.sum()))
    assert "9 conversations give 18 rows" in str(report.describe())


def test_a_record_with_one_answer_too_long_is_trained_and_reported(cut: Any) -> None:
    rows, _, report = cut(thinking(9), 64, val_fraction=0.0)
    assert (report.trained, len(rows), report.dropped) == (9, 15, {})
    assert report.answers_left_out == {"longer than data.max_length": 3}
    assert "3 of their answers left out (longer than data.max_length)" in str(report.describe())


def test_a_record_is_drawn_and_held_out_whole(cut: Any) -> None:
    rows, val, report = cut(thinking(60), 1000, val_fraction=0.5, max_samples=50)
    assert (report.trained, report.validation, report.not_drawn) == (25, 25, 10)
    assert (len(rows), len(val)) == (50, 50)
    there, held = ({place for i in range(len(part)) for place in part.places(i)} for part in (rows, val))
    assert (len(there), len(held), there & held) == (25, 25, set())


def test_records_that_the_template_writes_otherwise_are_counted(write: Write, tokenizer: Any, tmp_path: Path) -> None:
    from fulgurite.data.dataset import WRITTEN_OTHERWISE

    config = File(path=[str(write("a.jsonl", [
        {"messages": [{"role": "user", "content": "a?"}, {"role": "assistant", "content": "b"}], "tools": [TOOL]},
        {"messages": [{"role": "user", "content": "c?"}, {"role": "assistant", "content": "d"}]},
    ]))], val_fraction=0.0)
    template = load_template("chatml", tokenizer)
    source = build_source(config, stage="sft", seed=1)
    examples = list(source.examples())
    encoded = tokenize_source(source, tokenizer, template, config, tmp_path / "cache")
    _, _, report = split_dataset(encoded, config, 1, 1000, Packing.none)
    flagged = [template.dialect.flags(e.messages) for e in examples]  # type: ignore[union-attr,arg-type]
    assert report.written_otherwise == {WRITTEN_OTHERWISE[flag]: 1 for flag in flagged if flag}
