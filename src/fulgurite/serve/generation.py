"""Answers requests one after the other, with the generation of `fulgurite chat`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from fulgurite.data.call_bodies import ParsedCall
from fulgurite.data.call_parser import CallParser, DamagedCall, Piece
from fulgurite.errors import FulguriteError, is_shortage
from fulgurite.foreign_code import describe_error
from fulgurite.language.message import message
from fulgurite.model.generate import continue_prompts
from fulgurite.serve.answer_stream import AnswerStream, CancelledAnswer, StopReached
from fulgurite.serve.api_error import ApiError
from fulgurite.serve.chat import Partner
from fulgurite.serve.chat_request import ChatRequest


@dataclass(frozen=True, slots=True)
class AnswerEnd:
    """The end of an answer: whether a limit cut it off, or the error that ended it."""

    cut: bool = False
    error: ApiError | None = None


Part = str | ParsedCall | AnswerEnd
Take = Callable[[Part], Any]


class PieceSplitter:
    """Passes an answer on as text and calls; leaves out the blanks at its beginning, as chat does."""

    def __init__(self, parser: CallParser | None, take: Take) -> None:
        self._parser, self._take, self._begun = parser, take, False

    def feed(self, text: str) -> None:
        """Takes the next text of the answer."""
        self._pass_on([text] if self._parser is None else self._parser.feed(text))

    def finish(self, end: AnswerEnd) -> None:
        """Passes on what is left, and the end."""
        if self._parser is not None and end.error is None:
            self._pass_on(self._parser.finish())
        self._take(end)

    def _pass_on(self, pieces: Sequence[Piece]) -> None:
        for piece in pieces:
            # what should have been a call is shown as the model wrote it
            part = piece.text if isinstance(piece, DamagedCall) else piece
            if isinstance(part, str) and not self._begun:
                part = part.lstrip()
            if part:
                self._begun = True
                self._take(part)


class Generator:
    """The thread that generates. A request that comes during an answer waits for its turn."""

    def __init__(self, partner: Partner) -> None:
        self._partner = partner
        self._worker = ThreadPoolExecutor(1, "fulgurite-generate")
        self._streams: set[AnswerStream] = set()

    def start(self, request: ChatRequest, take: Take) -> AnswerStream:
        """Calls `take`, in the thread, with each piece of the answer and then with its end; returns at once."""
        template, tokenizer = self._partner.template, self._partner.tokenizer
        parser = template.build_call_parser(request.tools) if request.tools else None
        # A call may be written with special tokens, which the parser leaves out of the text.
        decode = partial(tokenizer.decode, skip_special_tokens=parser is None)
        pieces = PieceSplitter(parser, take)
        stream = AnswerStream(decode, template.stop_ids, request.stops, pieces.feed)
        self._streams.add(stream)
        self._worker.submit(self._answer, request, stream, pieces)
        return stream

    def close(self) -> None:
        """Ends all answers, each with an error."""
        for stream in list(self._streams):
            stream.cancel()
        self._worker.shutdown(wait=False, cancel_futures=False)

    def _answer(self, request: ChatRequest, stream: AnswerStream, pieces: PieceSplitter) -> None:
        try:
            pieces.finish(self._generate(request, stream))
        finally:
            self._streams.discard(stream)

    def _generate(self, request: ChatRequest, stream: AnswerStream) -> AnswerEnd:
        partner = self._partner
        try:
            stream.check()
            (answer,) = continue_prompts(
                partner.model, partner.tokenizer, [request.prompt], partner.template.stop_ids,
                max_new_tokens=request.max_new_tokens, temperature=request.temperature, top_p=request.top_p,
                streamer=stream, seed=request.seed, context=partner.context(), length=partner.limit,
            )
            stream.finish()
            return AnswerEnd(cut=not answer.stopped)
        except StopReached:
            return AnswerEnd()
        except CancelledAnswer:
            return AnswerEnd(error=ApiError(503, message("The server was stopped before the answer was complete.")))
        except FulguriteError as error:
            return AnswerEnd(error=ApiError(400, error.message))
        except Exception as error:
            if is_shortage(error):
                short = message("Out of memory; send a shorter request, or ask for a shorter answer.")
                return AnswerEnd(error=ApiError(503, short))
            return AnswerEnd(error=ApiError(500, message("The answer failed: {error}", error=describe_error(error))))
