"""Requests: what is read, what is refused, and that nothing is ignored."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.serve.live import NAME, make_partner

from fulgurite.config.serve_arguments import Serve
from fulgurite.data.example import Conversation, Message
from fulgurite.serve.api_error import ApiError
from fulgurite.serve.chat_request import ChatRequest, Served, read_conversation, read_request, separate_reasoning

ASKED = [{"role": "user", "content": "Why?"}]
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {
    "type": "object", "properties": {}}}}


@pytest.fixture(scope="module")
def served() -> Served:
    return Served(NAME, make_partner(), Serve())


def refuse(served: Served, **body: Any) -> ApiError:
    """The error of a request."""
    with pytest.raises(ApiError) as refused:
        read_request({"messages": ASKED} | body, served)
    return refused.value


def test_a_request_without_values_has_those_of_the_server(served: Served) -> None:
    expected = ChatRequest(served.partner.template.encode_prompt([Message("user", "Why?")]), 0, 0.7, 0.9)
    room = served.partner.limit - len(expected.prompt)
    assert read_request({"messages": ASKED}, served) == replace(expected, max_new_tokens=room)
    small = replace(served, defaults=Serve(temperature=0.1, top_p=0.2, max_new_tokens=3))
    assert read_request({"messages": ASKED, "model": NAME, "user": "me", "n": 1, "logprobs": False}, small) == replace(
        expected, max_new_tokens=3, temperature=0.1, top_p=0.2
    )


def test_values_of_a_request_are_read(served: Served) -> None:
    body = {"messages": ASKED, "temperature": 0, "top_p": 1, "max_tokens": 4, "seed": -5, "stop": "x", "stream": True}
    found = read_request(body | {"stream_options": {"include_usage": True}}, served)
    assert found == ChatRequest(found.prompt, 4, 0, 1, -5, ("x",), (), True)
    found = read_request(body | {"max_completion_tokens": 7, "stop": ["a", "b"], "stream": None}, served)
    assert (found.max_new_tokens, found.stops, found.stream) == (7, ("a", "b"), False)


def test_functions_are_rendered_unless_the_request_forbids_them(served: Served) -> None:
    plain = read_request({"messages": ASKED}, served)
    found = read_request({"messages": ASKED, "tools": [TOOL]}, served)
    assert found.tools == (TOOL,)
    assert found.prompt == served.partner.template.encode_prompt(Conversation((Message("user", "Why?"),), (TOOL,)))
    assert read_request({"messages": ASKED, "tools": [TOOL], "tool_choice": "none"}, served) == plain


@pytest.mark.parametrize(("body", "status", "code", "param"), [
    ({"model": "gpt2"}, 404, "model_not_found", "model"), ({"model": 3}, 404, "model_not_found", "model"),
    ({"n": 2}, 400, "unsupported_value", "n"), ({"logprobs": True}, 400, "unsupported_value", "logprobs"),
    ({"response_format": {"type": "json_object"}}, 400, "unsupported_value", "response_format"),
    ({"frequency_penalty": 0.5}, 400, "unsupported_value", "frequency_penalty"),
    ({"generation_config": "{}"}, 400, "unsupported_parameter", "generation_config"),
    ({"chat_template_kwargs": {"chat_template": "x"}}, 400, "unsupported_parameter", "chat_template_kwargs"),
    ({"temperature": float("nan")}, 400, "invalid_value", "temperature"),
    ({"temperature": 3}, 400, "invalid_value", "temperature"),
    ({"temperature": "1"}, 400, "invalid_value", "temperature"),
    ({"temperature": True}, 400, "invalid_value", "temperature"), ({"top_p": -0.1}, 400, "invalid_value", "top_p"),
    ({"max_tokens": 0}, 400, "invalid_value", "max_tokens"), ({"max_tokens": 1.5}, 400, "invalid_value", "max_tokens"),
    ({"seed": 1 << 70}, 400, "invalid_value", "seed"), ({"stop": ""}, 400, "unsupported_value", "stop"),
    ({"stop": ["a"] * 17}, 400, "unsupported_value", "stop"), ({"stop": {"a": 1}}, 400, "unsupported_value", "stop"),
    ({"stream": "yes"}, 400, "unsupported_value", "stream"),
    ({"stream_options": {"x": 1}}, 400, "unsupported_value", "stream_options"),
    ({"tool_choice": "required"}, 400, "unsupported_value", "tool_choice"),
    ({"messages": None}, 400, None, "messages"), ({"messages": []}, 400, None, "messages"),
    ({"messages": "Why?"}, 400, None, "messages"), ({"messages": [3]}, 400, None, "messages[0]"),
    ({"messages": [{"role": "boss", "content": "x"}]}, 400, None, "messages[0].role"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///x"}}]}]}, 400, None,
     "messages[0].content[0].type"),
    ({"messages": [{"role": "user", "content": "x", "weird": 1}]}, 400, "unsupported_parameter", "messages[].weird"),
    ({"messages": [{"role": "system", "content": "x"}]}, 400, None, "messages[0]"),
    ({"messages": [*ASKED, {"role": "assistant", "content": "Because"}]}, 400, None, "messages"),
    ({"tools": [{"type": "function"}]}, 400, None, "tools[0].name"),
    ({"messages": [{"role": "user", "content": "why " * 500}]}, 400, "context_length_exceeded", "messages"),
])
def test_a_wrong_request_is_refused_in_openai_s_form(
    served: Served, body: dict[str, Any], status: int, code: str | None, param: str
) -> None:
    error = refuse(served, **body)
    assert (error.status, error.code, error.param) == (status, code, param)
    assert str(error)


def test_the_longest_question_leaves_one_token(served: Served) -> None:
    length = len(read_request({"messages": ASKED}, served).prompt)
    tight = replace(served, partner=replace(served.partner, limit=length + 1))
    assert read_request({"messages": ASKED, "max_tokens": 99}, tight).max_new_tokens == 1
    tight = replace(served, partner=replace(served.partner, limit=length))
    assert refuse(tight).code == "context_length_exceeded"


def test_the_messages_of_the_openai_client_are_read_whole() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    found = read_conversation({"messages": [
        {"role": "developer", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}]},
        {"role": "user", "content": "Why?"},
        # what `message.model_dump()` of an answer gives
        {"role": "assistant", "content": None, "refusal": None, "audio": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": "3"},
    ], "tools": [TOOL]})
    assert [(m.role, m.content) for m in found] == [
        ("system", "Be brief."), ("user", "Why?"), ("assistant", ""), ("tool", "3")
    ]
    assert found[2].tool_calls[0]["function"]["name"] == "f"
    assert found[3].call_id == "a"


def test_an_earlier_answer_is_read_as_chat_keeps_it(served: Served) -> None:
    template = served.partner.template
    talk = Conversation((Message("user", "Why?"), Message("assistant", " Because. "), Message("user", "How?")))
    found = separate_reasoning(talk, template)
    assert found[1] == template.answer(" Because. ") == Message("assistant", "Because.")
    assert (found[0], found[2]) == (talk[0], talk[2])
