"""Reads the body of a request in OpenAI's form: what of it changes the answer, or why it is refused.

Nothing is ignored that would change an answer: a field that is not supported is refused, unless it has the value that
means nothing. transformers' own server warns once in its log, and goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fulgurite.config.serve_arguments import Serve
from fulgurite.data.config import Format
from fulgurite.data.example import Conversation
from fulgurite.data.fields import Fields, Reading, Wrong
from fulgurite.data.formats import convert_record
from fulgurite.errors import DataError
from fulgurite.language.message import message
from fulgurite.serve.api_error import ApiError
from fulgurite.serve.chat import Partner

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,), "frequency_penalty": (0,), "presence_penalty": (0,), "logprobs": (False,), "top_logprobs": (0,),
    "logit_bias": ({},), "response_format": ({"type": "text"},), "modalities": (["text"],), "functions": ([],),
    "function_call": ("none", "auto"), "parallel_tool_calls": (True, False),
}
"""Fields that change nothing with these values, and are refused with others. How many calls an answer has is the
model's own choice."""
UNRELATED = frozenset(
    {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"}
)
"""Fields for the books of OpenAI, which no answer depends on."""
READ = frozenset({
    "messages", "model", "stream", "stream_options", "temperature", "top_p", "max_tokens", "max_completion_tokens",
    "seed", "stop", "tools", "tool_choice",
})
MOST_STOPS = 16


@dataclass(frozen=True, slots=True)
class Served:
    """The model that a server is pinned to: its name, and the values of requests that give none."""

    name: str
    partner: Partner
    defaults: Serve
    created: int = 0
    """The time of the checkpoint, in seconds."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A request that can be answered: the prompt as token ids, and how to go on from it."""

    prompt: list[int]
    max_new_tokens: int
    temperature: float
    top_p: float
    seed: int | None = None
    stops: tuple[str, ...] = ()
    tools: tuple[Mapping[str, Any], ...] = ()
    stream: bool = False


def read_request(body: Mapping[str, Any], served: Served) -> ChatRequest:
    """Reads a request for the model of this server. Raises ApiError."""
    check_model(body.get("model"), served.name)
    check_fields(body)
    template = served.partner.template
    conversation = separate_reasoning(read_conversation(body), template)
    try:
        prompt = template.encode_prompt(conversation)
    except DataError as error:
        raise ApiError(400, error.message, param="messages") from error
    defaults, limit = served.defaults, served.partner.limit
    room = limit - len(prompt)
    if room < 1:
        raise ApiError(400, message(
            "The messages have {length} tokens, and this model can read at most {limit} with its answer; send fewer.",
            length=len(prompt), limit=limit,
        ), code="context_length_exceeded", param="messages")
    # max_completion_tokens is OpenAI's newer name of max_tokens, and counts if both are given.
    most = _read_number(body, "max_completion_tokens", None, 1) or _read_number(body, "max_tokens", None, 1)
    seed = _read_number(body, "seed", None, -(1 << 63), (1 << 63) - 1)
    temperature = _read_number(body, "temperature", defaults.temperature, 0, 2, whole=False)
    top_p = _read_number(body, "top_p", defaults.top_p, 0, 1, whole=False)
    assert temperature is not None
    assert top_p is not None
    return ChatRequest(
        prompt, min(int(most or defaults.max_new_tokens), room), temperature, top_p,
        None if seed is None else int(seed), _read_stops(body.get("stop")), conversation.tools,
        bool(body.get("stream")),
    )


def check_model(asked: object, name: str) -> None:
    """Raises ApiError if a request names another model; one that names none means ours."""
    if asked is not None and asked != name:
        raise ApiError(404, message("This server has the model {name} and no other; {asked} is never loaded.",
                                    name=name, asked=str(asked)[:200]), code="model_not_found", param="model")


def check_fields(body: Mapping[str, Any]) -> None:
    """Raises ApiError for a field that is not supported, or has a type or a value that is not."""
    for name, value in body.items():
        if value is None or name in READ or name in UNRELATED:
            continue
        if name not in NEUTRAL:
            raise ApiError(400, message("This server does not support {name}; leave it out.", name=name[:200]),
                           code="unsupported_parameter", param=name[:200])
        if value not in NEUTRAL[name]:
            raise ApiError(400, message("This server does not support {name}={value}; leave it out.",
                                        name=name, value=str(value)[:200]), code="unsupported_value", param=name)
    if body.get("stream") not in (None, True, False):
        raise _refuse_value("stream", body["stream"])
    options = body.get("stream_options")
    if options is not None and (not isinstance(options, Mapping) or not {*options} <= {"include_usage"}):
        raise _refuse_value("stream_options", options)
    if body.get("tool_choice") not in (None, "auto", "none"):
        raise _refuse_value("tool_choice", body["tool_choice"])


def read_conversation(body: Mapping[str, Any]) -> Conversation:
    """Reads `messages` and `tools` as the records of a data set are read. Raises ApiError."""
    tools = None if body.get("tool_choice") == "none" else body.get("tools")
    reading = Reading(asks=True)
    try:
        conversation, _ = convert_record(
            Fields({"messages": body.get("messages"), "tools": tools}, reading), Format.openai
        )
    except Wrong as wrong:
        raise ApiError(400, message("{field}: {reason}", field=wrong.field, reason=wrong.reason),
                       param=wrong.field) from wrong
    assert conversation is not None
    if reading.unread:
        name = min(reading.unread)
        raise ApiError(400, message("This server does not support {name}; leave it out.", name=name[:200]),
                       code="unsupported_parameter", param=name[:200])
    if conversation[-1].role not in ("user", "tool"):
        raise ApiError(400, message("The last message must be a question or the result of a call, not of the role "
                                    "{role}.", role=conversation[-1].role), param="messages")
    return conversation


def separate_reasoning(conversation: Conversation, template: Any) -> Conversation:
    """Separates the reasoning from earlier answers, which come back as this server has sent them; as chat does."""
    messages = []
    for turn in conversation:
        if turn.role == "assistant" and turn.content and not turn.reasoning:
            answer = template.answer(turn.content)
            turn = replace(turn, content=answer.content, reasoning=answer.reasoning)
        messages.append(turn)
    return replace(conversation, messages=tuple(messages))


def _read_number(
    body: Mapping[str, Any], name: str, default: float | None, least: float, most: float = 1 << 31, whole: bool = True
) -> float | None:
    value: Any = body.get(name)
    if value is None:
        return default
    # JSON's true is an int to Python, so it is refused by itself below.
    right = isinstance(value, int) or (not whole and isinstance(value, float))
    if isinstance(value, bool) or not right or not least <= value <= most:
        if whole:
            raise ApiError(400, message("{name} must be a whole number from {least} to {most}.",
                                        name=name, least=least, most=most), code="invalid_value", param=name)
        raise ApiError(400, message("{name} must be a number from {least} to {most}.",
                                    name=name, least=least, most=most), code="invalid_value", param=name)
    return float(value) if not whole else int(value)


def _read_stops(value: object) -> tuple[str, ...]:
    listed = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(listed, list) or len(listed) > MOST_STOPS or not all(isinstance(s, str) and s for s in listed):
        raise _refuse_value("stop", value)
    return tuple(listed)


def _refuse_value(name: str, value: object) -> ApiError:
    return ApiError(400, message("{name}={value} is not supported here.", name=name, value=str(value)[:200]),
                    code="unsupported_value", param=name)
