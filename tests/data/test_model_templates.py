"""The chat templates that TRL ships: each is trained with as it is, or refused for a reason that is true."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from fulgurite.data.answers import REASONING_LEFT_OUT
from fulgurite.data.example import Conversation, Message, to_dicts
from fulgurite.data.template import Template, load_template
from fulgurite.data.template_dialect import GREETING_LEFT_OUT, SYSTEM_MOVED
from fulgurite.errors import ConfigError, DataError

trl = pytest.importorskip("trl")
FILES = {path.stem: path for path in sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja"))}
SPECIAL = re.compile(
    r"<[|｜][^|｜<>\n{}']{1,40}[|｜]>|<(?:start|end)_of_turn>|<\w+\|>|<\|\w+>|\[/?[A-Z_]{3,}\]|"
    r"</?(?:think|tool_call|tool_response)>"
    r"|<end_of_utterance>|\[gMASK\]|<sop>"
)
"""What a template writes that is one token in its model's tokenizer."""
TOOL = {"type": "function", "function": {
    "name": "weather", "description": "the weather", "parameters": {
        "type": "object", "properties": {"city": {"type": "string", "description": "where"}}, "required": ["city"],
    },
}}
CALL = {"type": "function", "id": "abcdefghi", "function": {"name": "weather", "arguments": {"city": "Bern"}}}
SYSTEM = Message("system", "Be brief.")


def user(text: str) -> Message:
    return Message("user", text)


def said(text: str, reasoning: str = "", *calls: Any) -> Message:
    return Message("assistant", text, calls, reasoning)


def result(text: str) -> Message:
    return Message("tool", text, name="weather", call_id="abcdefghi")


CASES: dict[str, Conversation] = {
    "one turn": Conversation.of([user("Hi there?"), said("Good.")]),
    "system": Conversation.of([SYSTEM, user("Hi there?"), said("Good.")]),
    "turns": Conversation.of([user("Hi there?"), said("Good."), user("And now?"), said("Bad."), user("Why?"),
        said("So.")]),
    "system, turns": Conversation.of([SYSTEM, user("Hi there?"), said("Good."), user("And now?"), said("Bad.")]),
    "reasoning": Conversation.of([user("Hi there?"), said("Good.", "first thought")]),
    "system, reasoning, turns": Conversation.of([
        SYSTEM, user("Hi there?"), said("Good.", "first thought"), user("And now?"), said("Bad.", "second thought"),
    ]),
    "tools": Conversation((user("Hi there?"), said("", "", CALL), result('{"sky": "blue"}'), said("Blue.")), (TOOL,)),
    "system, tools, turns": Conversation((
        SYSTEM, user("Hi there?"), said("", "", CALL), result('it is "blue"'), said("Blue."), user("More?"),
        said("No."),
    ), (TOOL,)),
    "tools, reasoning": Conversation((
        user("Hi there?"), said("", "need weather", CALL), result("blue"), said("Blue.", "looked up"),
    ), (TOOL,)),
}
TOOLED = [name for name in CASES if "tools" in name]
ALTERNATE, LEFT_OUT = "Conversation roles must alternate", "leaves out the content of a tool message"
REFUSED = {
    "cohere": ALTERNATE, "cohere_training": ALTERNATE, "cohere2": ALTERNATE, "cohere2_training": ALTERNATE,
    "gemma": ALTERNATE, "gemma_training": ALTERNATE, "gemma3": ALTERNATE, "gemma3_training": ALTERNATE,
    "llava_next": "Only user and assistant roles are supported",
    "llava_next_training": "Only user and assistant roles are supported",
    "phi3": LEFT_OUT, "phi3_training": LEFT_OUT, "phi3_5": LEFT_OUT, "phi3_5_training": LEFT_OUT,
}
"""Templates with no place for the result of a function: conversations with tools are refused, the others are not."""
THINKING = {name for name in CASES if "reasoning" in name}
THOUGHTLESS = {
    "qwen3_5_nothink": THINKING, "qwen3_5_nothink_training": THINKING, "llama3_1": {"tools, reasoning"},
    "llama3_2": {"tools, reasoning"},
}
"""Templates that leave out reasoning: Qwen 3.5's prompt closes it before the answer (enable_thinking is false);
Llama 3.1 writes nothing beside a call."""
ENDLESS = {"glm4moe"}
"""Ends an answer by the head of the next turn alone: nothing in a conversation's last turn tells the model to stop."""


@cache
def template_of(name: str) -> Template:
    text = FILES[name].read_text(encoding="utf-8")
    raw = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))},
        merges=[]))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    made.add_special_tokens({"additional_special_tokens": sorted(set(SPECIAL.findall(text)) - {"<s>", "</s>"})})
    made.chat_template = text
    return load_template(None, made)


def check_rows(template: Template, talk: Conversation, answers: list[int], mask: str) -> None:
    """Each answer is learned behind its prompt, to an end token."""
    left, thoughtless = list(answers), any(plan.flags & REASONING_LEFT_OUT for plan in template.plans(talk, mask))
    for row in template.encode_rows(talk, mask):
        for begin in (i for i in range(1, len(row.ids)) if row.learn[i] and not row.learn[i - 1]):
            place = left.pop(0)
            end = next((i for i in range(begin, len(row.ids)) if not row.learn[i]), len(row.ids))
            assert row.ids[:begin] == template.encode_prompt(talk[:place])
            assert row.ids[end - 1] in template.stop_ids
            written = template.tokenizer.decode(row.ids[begin:end])
            assert talk[place].content in written
            assert talk[place].reasoning in written or thoughtless
            assert all(word in written for call in talk[place].tool_calls for word in ("weather", "Bern"))
    assert left == []


def test_trl_ships_its_templates() -> None:
    assert len(FILES) >= 72


@pytest.mark.parametrize("name", [name for name in FILES if name not in ENDLESS])
def test_each_answer_is_learned_behind_its_prompt(name: str) -> None:
    template = template_of(name)
    for case, talk in CASES.items():
        answers = [i for i, message in enumerate(talk) if message.role == "assistant"]
        if name in REFUSED and case in TOOLED:
            with pytest.raises(DataError, match=REFUSED[name]):
                template.encode_rows(talk, "answers")
            continue
        thoughtless = any(plan.flags & REASONING_LEFT_OUT for plan in template.plans(talk, "answers"))
        assert thoughtless == (case in THOUGHTLESS.get(name, ()))
        check_rows(template, talk, answers, "answers")
        check_rows(template, talk, answers[-1:], "last")


@pytest.mark.parametrize("name", [name for name in FILES if name not in ENDLESS])
def test_a_prompt_is_that_of_transformers(name: str) -> None:
    template = template_of(name)
    for case in ("turns", "system, turns", "tools", "system, tools, turns"):
        talk = CASES[case][:-1]
        if (case in TOOLED and not (template.dialect.tools
            and template.dialect.calls == "object")) or template.dialect.flags(talk):
            continue  # what transformers cannot write, or what the template joins as text
        turns: list[dict[str, Any]] = to_dicts(talk)
        if template.dialect.parts:
            turns = [turn | {"content": [{"type": "text", "text": turn["content"]}]} for turn in turns]
        theirs = template.tokenizer.apply_chat_template(
            turns, tools=[TOOL] if talk.tools else None, add_generation_prompt=True
        )
        assert template.encode_prompt(talk) == theirs["input_ids"]


@pytest.mark.parametrize("name", sorted(ENDLESS))
def test_a_template_that_writes_no_end_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="writes no end token after an answer"):
        template_of(name)


@pytest.mark.parametrize("name", [name for name in FILES if name not in ENDLESS])
def test_a_greeting_and_a_later_system_message_are_written_or_moved(name: str) -> None:
    template = template_of(name)
    greeting = replace(said("Welcome!"), learned=False)
    later = [user("Hi there?"), said("Good."), Message("system", "Now be rude."), user("And now?"), said("Bad.")]
    for talk in (
        [greeting, *later], [SYSTEM, greeting, *later], [user("Hi?"), Message("system", "Now be rude."), said("Bad.")]
    ):
        answers = [i for i, message in enumerate(talk) if message.role == "assistant" and message.learned]
        check_rows(template, Conversation.of(talk), answers, "answers")
        whole = template.encode_rows(talk, "all")[0]
        assert all(whole.learn)
        written = template.tokenizer.decode(whole.ids)
        assert written.count("Now be rude.") == 1
        assert ("Welcome!" in written) == (template.dialect.greeting and greeting in talk)
        flags = template.dialect.flags(talk)
        assert bool(flags & GREETING_LEFT_OUT) == (greeting in talk and not template.dialect.greeting)
        if not template.dialect.later_system:
            assert flags & SYSTEM_MOVED


@pytest.mark.parametrize("name",
    [name for name in FILES if "enable_thinking" in FILES[name].read_text(encoding="utf-8")])
def test_arguments_of_a_record_are_as_those_of_the_run(name: str) -> None:
    if name in ENDLESS:
        pytest.skip("writes no end of an answer")
    template = template_of(name)
    for on in (False, True):
        given = Template(template.name, template.tokenizer, {"enable_thinking": on})
        for case in ("turns", "system, reasoning, turns", "reasoning"):
            own = replace(CASES[case], arguments={"enable_thinking": on})
            assert template.encode_rows(own, "answers") == given.encode_rows(CASES[case], "answers")
            assert template.encode_chat(own, "last") == given.encode_chat(CASES[case], "last")
            assert template.encode_prompt(own[:-1]) == given.encode_prompt(CASES[case][:-1])
    prompts = [template.encode_prompt(replace(CASES["turns"][:-1], arguments={"enable_thinking": on}))
        for on in (False, True)]
    assert (prompts[0] != prompts[1]) == (name != "qwen3_instruct_2507_training")  # which names it and does not heed it
