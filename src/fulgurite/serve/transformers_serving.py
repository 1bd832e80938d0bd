"""The HTTP server of `transformers serve`, pinned to one loaded model.

transformers has the routes and writes answers and events in OpenAI's form. Its model manager, which loads what a
request names, and its generation, which does not know the precision and the template of a run, are replaced.

All of this is private to transformers, and in this file alone: checked with transformers 5.23.0.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from openai.types.completion_usage import CompletionUsage
from starlette.exceptions import HTTPException
from transformers.cli.serving.chat_completion import ChatCompletionHandler
from transformers.cli.serving.server import build_server
from transformers.cli.serving.utils import ToolCall, _StreamError

from fulgurite.data.call_bodies import ParsedCall
from fulgurite.foreign_code import describe_error
from fulgurite.language.message import message
from fulgurite.serve.answer_stream import AnswerStream
from fulgurite.serve.api_error import ApiError
from fulgurite.serve.chat_request import ChatRequest, Served, check_model, read_request
from fulgurite.serve.gate import MODELS
from fulgurite.serve.generation import AnswerEnd, Generator, Part
from fulgurite.text.console import say

UNPARSED: Any = SimpleNamespace(response_template=None, config=SimpleNamespace(model_type=""))
"""A tokenizer and a model for which transformers parses no answer: the calls are found before."""
FAULT = 'data: {"error": ""}\n\n'
"""transformers' event of an error without a text, which is not OpenAI's form."""
DONE = "data: [DONE]\n\n"
"""The last event of a stream in OpenAI's form, which transformers leaves out."""


class PinnedModels:
    """What transformers' server asks its model manager for: the list of models, and to unload them at the end."""

    def __init__(self, served: Served, generator: Generator) -> None:
        self._served, self._generator = served, generator

    def get_gen_models(self) -> list[dict[str, Any]]:
        """Returns the one model; transformers searches the cache of the hub, and fails if there is none."""
        return [{
            "id": self._served.name, "object": "model", "created": self._served.created, "owned_by": "fulgurite",
            "max_model_len": self._served.partner.limit,
        }]

    def shutdown(self) -> None:
        """Ends the answers."""
        self._generator.close()


class RequestGeneration:
    """The generation of one request, as transformers' handler asks for it: a queue of pieces, None at the end."""

    def __init__(self, request: ChatRequest, generator: Generator) -> None:
        self.request, self.generator = request, generator
        self.cap = SimpleNamespace(max_new_tokens=request.max_new_tokens)
        """What transformers compares the number of tokens with, to see whether the answer was cut off."""
        self.error: ApiError | None = None

    def generate_streaming(self, *_: object, **__: object) -> tuple[asyncio.Queue[Any], AnswerStream]:
        """Starts the generation; returns the queue, and the stream that can be cancelled."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[Any] = asyncio.Queue()

        def put(part: Part) -> None:
            for item in self._convert(part):
                queue.put_nowait(item)

        def take(part: Part) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(put, part)

        return queue, self.generator.start(self.request, take)

    def _convert(self, part: Part) -> list[Any]:
        """Returns the items of transformers' queue for a piece or the end."""
        if isinstance(part, ParsedCall):
            return [ToolCall(part.name, json.dumps(dict(part.arguments), ensure_ascii=False))]
        if not isinstance(part, AnswerEnd):
            return [part]
        if part.error is not None:
            self.error = part.error
            return [_StreamError("")]
        if not part.cut:
            # an answer that stops by itself at its last token is not cut
            self.cap.max_new_tokens = None
        return [None]


class PinnedHandler(ChatCompletionHandler):  # type: ignore[misc]
    """transformers' handler of chat completions, for the one model."""

    def __init__(self, served: Served, generator: Generator) -> None:
        super().__init__(model_manager=None, generation_state=None)
        self._served, self._generator = served, generator
        # one at a time: a tokenizer is not safe in several threads
        self._reader = ThreadPoolExecutor(1, "fulgurite-read")

    async def handle_request(self, body: dict[str, Any], request_id: str) -> Response:
        """Answers a request, as a stream of events or as one object. Raises ApiError."""
        loop = asyncio.get_running_loop()
        request = await loop.run_in_executor(self._reader, read_request, body, self._served)
        generation = RequestGeneration(request, self._generator)
        if not request.stream:
            return await self._answer(request_id, generation)
        response: StreamingResponse = self._streaming(
            request_id, UNPARSED, UNPARSED, self._served.name, {"input_ids": request.prompt}, generation.cap,
            gen_manager=generation,
        )
        response.body_iterator = _correct_end(response.body_iterator, generation)
        return response

    async def _answer(self, request_id: str, generation: RequestGeneration) -> JSONResponse:
        queue, stream = generation.generate_streaming()
        texts: list[str] = []
        calls: list[dict[str, Any]] = []
        while (item := await queue.get()) is not None:
            if generation.error is not None:
                raise generation.error
            if isinstance(item, ToolCall):
                function = {"name": item.name, "arguments": item.arguments}
                calls.append({"id": make_call_id(), "type": "function", "function": function})
            else:
                texts.append(item)
        used, given = stream.total_tokens, len(generation.request.prompt)
        usage = CompletionUsage(prompt_tokens=given, completion_tokens=used, total_tokens=given + used)
        cut = generation.cap.max_new_tokens is not None
        # of a message with calls alone the content is null
        content = None if calls and not texts else "".join(texts)
        return JSONResponse(self._build_completion(
            request_id, content, self._served.name, usage=usage, tool_calls=calls or None,
            finish_reason="tool_calls" if calls else "length" if cut else "stop",
        ))

    def _build_chunk_sse(self, *words: Any, **fields: Any) -> str:
        """Builds an event; gives calls an identifier that every template accepts."""
        for call in fields.get("tool_calls") or ():
            call.id = make_call_id()
        event: str = super()._build_chunk_sse(*words, **fields)
        return event


def make_call_id() -> str:
    """Returns an identifier of a call: nine letters and digits, as Mistral's templates demand."""
    return secrets.token_hex(5)[:9]


async def _correct_end(events: Any, generation: RequestGeneration) -> AsyncIterator[str]:
    """Yields the events with an error in OpenAI's form, and then the last one.

    If the client leaves, `events` is closed, which cancels the answer.
    """
    async with contextlib.aclosing(events):
        async for event in events:
            if generation.error is not None and event.endswith(FAULT):
                body = json.dumps(generation.error.to_body(), ensure_ascii=False)
                yield f"{event.removesuffix(FAULT)}data: {body}\n\n"
            else:
                yield event
    yield DONE


def build_app(served: Served) -> FastAPI:
    """Builds the application: transformers' routes, of which the gate lets those for one model through."""
    generator = Generator(served.partner)
    models: Any = PinnedModels(served, generator)
    # The gate answers for the routes of the other handlers.
    others = dict.fromkeys(("completion_handler", "response_handler", "transcription_handler", "systemone_handler"))
    alive = SimpleNamespace(is_cb_alive=lambda: True)
    app: FastAPI = build_server(models, PinnedHandler(served, generator), generation_state=alive, **others)
    app.state.generator = generator

    @app.get(MODELS + "/{name:path}")
    def get_model(name: str) -> dict[str, Any]:
        check_model(name, served.name)
        found: dict[str, Any] = models.get_gen_models()[0]
        return found

    for kind in (ApiError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, answer_error)
    return app


async def answer_error(request: Request, error: Exception) -> JSONResponse:
    """Returns an error in OpenAI's form."""
    if isinstance(error, ApiError):
        found = error
    elif isinstance(error, RequestValidationError):
        body = message("The body must be a JSON object, with the header Content-Type: application/json.")
        found = ApiError(400, body)
    elif isinstance(error, HTTPException):
        found = ApiError(error.status_code, message("The request was refused: {detail}", detail=error.detail))
    else:
        found = ApiError(500, message("The server failed: {error}", error=describe_error(error)))
        say(found.message)
    return JSONResponse(found.to_body(), found.status)
