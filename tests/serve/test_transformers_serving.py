"""The server over HTTP, asked by the `openai` client: its text is that of chat, streamed and not."""

from __future__ import annotations

import http.client
import io
import json
import threading
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from tests.serve.live import NAME, Live, make_partner, run_server, script

from fulgurite.config.chat_arguments import ChatConfig
from fulgurite.config.serve_arguments import Serve
from fulgurite.data.example import Message
from fulgurite.model.generate import generate
from fulgurite.serve.chat import ChatSession, Partner

ASKED: list[Any] = [{"role": "user", "content": "What is a warmup?"}]
TOOLS: list[Any] = [{"type": "function", "function": {
    "name": "look", "parameters": {"type": "object", "properties": {"word": {"type": "string"}}},
}}]


@pytest.fixture(scope="module")
def partner() -> Partner:
    return make_partner()


@pytest.fixture(scope="module")
def live(partner: Partner) -> Iterator[Live]:
    with run_server(partner) as running:
        yield running


def stream(live: Live, **how: Any) -> tuple[str, Any]:
    """The joined text of a streamed answer, and its last event."""
    events = list(live.client().chat.completions.create(model=NAME, stream=True, **{"messages": ASKED} | how))
    assert events[0].choices[0].delta.role == "assistant"
    return "".join(event.choices[0].delta.content or "" for event in events), events[-1]


def ask(live: Live, **how: Any) -> Any:
    """The answer in one piece."""
    return live.client().chat.completions.create(model=NAME, **{"messages": ASKED} | how)


@pytest.mark.parametrize("how", [
    {"temperature": 0, "max_tokens": 50}, {"temperature": 1.2, "seed": 5, "max_tokens": 50},
    {"temperature": 0, "max_completion_tokens": 1}, {"temperature": 0, "max_tokens": 50, "stop": ["turn", "e"]},
])
def test_streamed_is_not_streamed(live: Live, how: dict[str, Any]) -> None:
    whole = ask(live, **how)
    text, last = stream(live, **how)
    assert text == whole.choices[0].message.content
    assert last.choices[0].finish_reason == whole.choices[0].finish_reason
    assert last.usage == whole.usage
    assert last.model == whole.model == NAME


def test_the_text_is_that_of_generate_and_its_tokens_are_counted(live: Live, partner: Partner) -> None:
    prompt = [Message("user", ASKED[0]["content"])]
    expected = generate(partner.model, partner.tokenizer, partner.template, prompt, max_new_tokens=50)
    found = ask(live, temperature=0, max_tokens=50)
    assert found.choices[0].message.content == expected.text.lstrip()
    assert found.choices[0].finish_reason == ("stop" if expected.stopped else "length")
    given = len(partner.template.encode_prompt(prompt))
    assert found.usage.model_dump(exclude_none=True) == {
        "prompt_tokens": given, "completion_tokens": expected.tokens, "total_tokens": given + expected.tokens,
    }


def test_a_conversation_is_that_of_chat(live: Live, partner: Partner) -> None:
    out = io.StringIO()
    config = ChatConfig(model="x", temperature=0.0, max_new_tokens=20, system="Be brief.")
    ChatSession(partner, config, out).hold(io.StringIO("What is a warmup?\nWhy?\n"))
    shown = out.getvalue().split("> ")[1:]
    messages: list[Any] = [{"role": "system", "content": "Be brief."}]
    for question, part in zip(("What is a warmup?", "Why?"), shown, strict=True):
        messages.append({"role": "user", "content": question})
        text, _ = stream(live, messages=messages, temperature=0, max_tokens=20)
        plain = part.removeprefix(f"{question}\n").removesuffix(" (cut at max_new_tokens=20)\n")
        # the terminal shows control characters as one sign
        assert [c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text] == list(plain)
        messages.append({"role": "assistant", "content": text})


def test_models_are_the_one_model(live: Live) -> None:
    (found,) = live.client().models.list().data
    assert (found.id, found.object, found.created) == (NAME, "model", 1_700_000_000)
    assert live.client().models.retrieve(NAME) == found
    with pytest.raises(openai.NotFoundError):
        live.client().models.retrieve("gpt2")


@pytest.mark.parametrize(("how", "error", "code"), [
    ({"model": "HuggingFaceTB/SmolLM2-135M"}, openai.NotFoundError, "model_not_found"),
    ({"n": 3}, openai.BadRequestError, "unsupported_value"),
    ({"messages": [{"role": "user", "content": "why " * 500}]}, openai.BadRequestError, "context_length_exceeded"),
])
@pytest.mark.parametrize("streamed", [True, False])
def test_errors_are_those_of_openai(
    live: Live, how: dict[str, Any], error: type[openai.APIStatusError], code: str, streamed: bool
) -> None:
    with pytest.raises(error) as refused:
        live.client().chat.completions.create(**{"model": NAME, "messages": ASKED, "stream": streamed} | how)
    assert refused.value.code == code


def post(live: Live, body: bytes, kind: str = "application/json") -> tuple[int, Any]:
    """The status and the content of the answer to any body."""
    connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=60)
    connection.request("POST", "/v1/chat/completions", body, {"content-type": kind})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text if "event-stream" in str(answer.getheader("content-type")) else json.loads(text)


@pytest.mark.parametrize("body", [b"", b"xx", b"[]", b'"x"', b"\xff", b'{"messages":', b"{}"])
def test_a_body_that_is_no_request_is_refused(live: Live, body: bytes) -> None:
    status, found = post(live, body)
    assert status == 400
    assert found["error"]["type"] == "invalid_request_error"
    assert post(live, body, "text/plain")[0] == 400


def test_the_last_event_of_a_stream_is_done(live: Live) -> None:
    status, text = post(live, json.dumps({"messages": ASKED, "stream": True, "max_tokens": 2}).encode())
    assert status == 200
    assert text.endswith("}\n\ndata: [DONE]\n\n")


def test_calls_come_back_as_tool_calls_and_their_results_are_read(partner: Partner) -> None:
    written = 'I look.\n{"name": "look", "arguments": {"word": "a \\" 汉"}}'
    calling, model = script(partner, written)
    with run_server(calling) as live:
        whole = ask(live, tools=TOOLS).choices[0]
        client = live.client()
        events = list(client.chat.completions.create(model=NAME, messages=ASKED, tools=TOOLS, stream=True))
        deltas = [call for event in events for call in event.choices[0].delta.tool_calls or ()]
        for reason, call in ((whole.finish_reason, whole.message.tool_calls[0]),
                             (events[-1].choices[0].finish_reason, deltas[0])):
            assert reason == "tool_calls"
            assert call.function.name == "look"
            assert json.loads(call.function.arguments) == {"word": 'a " 汉'}
            assert call.id.isalnum()
            assert len(call.id) == 9
        text = "".join(event.choices[0].delta.content or "" for event in events)
        assert text.strip() == whole.message.content.strip() == "I look."
        assert len(whole.message.tool_calls) == len(deltas) == 1
        # the round trip: what the client got goes back with the result
        result = {"role": "tool", "tool_call_id": whole.message.tool_calls[0].id, "content": "found 37"}
        model.text = "It is 37."
        final = ask(live, messages=[*ASKED, whole.message.model_dump(), result], tools=TOOLS)
        assert final.choices[0].message.content == "It is 37."
        assert final.choices[0].finish_reason == "stop"
        assert "found 37" in model.prompts[-1]
        assert "look" in model.prompts[-1]


def test_a_second_request_waits_for_the_first_and_others_do_not(partner: Partner) -> None:
    slow, model = script(partner, "One two.", held=True)
    with run_server(slow) as live:
        events = iter(live.client().chat.completions.create(model=NAME, messages=ASKED, stream=True))
        assert next(events).choices[0].delta.role == "assistant"
        assert model.begun.wait(60)
        second: list[Any] = []
        waiting = threading.Thread(target=lambda: second.append(ask(live)))
        waiting.start()
        assert live.client().models.list().data[0].id == NAME  # answers during the first stream
        assert second == []
        model.go.set()
        assert "".join(event.choices[0].delta.content or "" for event in events) == "One two."
        waiting.join(60)
        assert second[0].choices[0].message.content == "One two."


def test_a_client_that_leaves_ends_its_answer(partner: Partner) -> None:
    endless, model = script(partner, "One two.", endless=True)
    with run_server(endless) as live:
        left = live.client().chat.completions.create(model=NAME, messages=ASKED, stream=True)
        next(iter(left))
        left.close()
        assert ask(live).choices[0].message.content == "One two."
        assert len(model.prompts) == 2


def test_stopping_the_server_ends_a_stream_with_an_error(partner: Partner) -> None:
    with run_server(script(partner, "One two.", endless=True)[0]) as live:
        events = iter(live.client().chat.completions.create(model=NAME, messages=ASKED, stream=True))
        next(events)
        live.stop()
        with pytest.raises(openai.APIError, match="was stopped before the answer was complete"):
            list(events)


def test_a_key_is_needed_if_there_is_one(partner: Partner) -> None:
    key = "0123456789abcdef"
    with run_server(partner, Serve(origins="https://app.example"), key) as live:
        assert live.client().models.list().data[0].id == NAME
        with pytest.raises(openai.AuthenticationError, match="The key is missing or wrong"):
            live.client(key="wrong").models.list()
        # a page of the list may ask, with the key; its browser asks first without one
        connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=60)
        page = {"origin": "https://app.example"}
        connection.request("OPTIONS", "/v1/models", headers=page | {
            "access-control-request-method": "GET", "access-control-request-headers": "authorization",
        })
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("access-control-allow-origin")) == (200, "https://app.example")
        answer.read()
        connection.request("GET", "/v1/models", headers=page | {"authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("access-control-allow-origin")) == (200, "https://app.example")
        connection.close()
