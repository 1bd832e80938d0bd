"""Finds the calls in generated text, at once or as it is generated: text that is surely no part of a call is released
immediately."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import regex

from fulgurite.data.call_bodies import ENDS_EARLY, BrokenBody, CallOpening, ParsedCall
from fulgurite.data.call_forms import CallForm
from fulgurite.language.message import UserMessage, message

THOUGHT, CLOSE = "<think>", "</think>"


@dataclass(frozen=True, slots=True)
class DamagedCall:
    """A call that cannot be read: its text as the model wrote it, and the reason."""

    text: str
    reason: UserMessage


Piece = str | ParsedCall | DamagedCall
"""A part of an answer, in order: text, a call, or what should have been a call."""


@dataclass(slots=True)
class ParsedAnswer:
    """The parts of a whole answer. `text` is what is not a call, with the damaged calls in it."""

    text: str = ""
    calls: list[ParsedCall] = field(default_factory=list)
    damaged: list[DamagedCall] = field(default_factory=list)


class CallParser:
    """Reads one answer in the given form, as it is generated.

    `feed` takes the next piece of text and `finish` ends the answer; both return what is decided by now: `str`,
    `ParsedCall` or `DamagedCall`, in the order of the answer. Neither raises for anything that a model may write.
    `tools` are the functions in OpenAI's form; parameters that a template writes without quotes are read by their
    declared types. `thinking`: the prompt has opened a thought, in which no call is looked for up to `</think>`.
    `hidden` are texts to leave out, such as those of special tokens. Without a form everything is text.
    """

    def __init__(
        self, form: CallForm | None, tools: Sequence[Mapping[str, Any]] = (), *, thinking: bool = False,
        hidden: Iterable[str] = (),
    ) -> None:
        self._form, self._parameters, self._thinking = form, _list_parameters(tools), thinking
        self._text, self._at, self._after = "", 0, False
        self._opened: Any = None
        self._hidden = _compile_hidden(hidden)
        self._begun = thinking

    def feed(self, text: str) -> list[Piece]:
        """Takes the next piece of the answer, and returns the parts that it decides."""
        self._text += text
        return self._advance(ended=False)

    def finish(self) -> list[Piece]:
        """Ends the answer, and returns its last parts."""
        return self._advance(ended=True)

    def _advance(self, ended: bool) -> list[Piece]:
        pieces: list[Piece] = []
        while True:
            # A step that changes nothing of this needs more text.
            before = (self._at, self._opened, self._after, self._thinking, self._begun)
            found = self._step(ended)
            for piece in found:
                # Pieces of text that follow each other are one.
                if isinstance(piece, str) and pieces and isinstance(pieces[-1], str):
                    pieces[-1] += piece
                elif piece:
                    pieces.append(piece)
            if (self._at, self._opened, self._after, self._thinking, self._begun) == before:
                return pieces

    def _step(self, ended: bool) -> list[Piece]:
        """Does the next step; changes nothing if it needs more text."""
        if not self._begun:
            return self._find_thought(ended)
        if self._thinking:
            return self._read_thought(ended)
        if self._opened is not None:
            return self._read_body(ended)
        if self._after:
            return self._skip_tail(ended)
        return self._find_opening(ended)

    def _find_thought(self, ended: bool) -> list[Piece]:
        """Decides whether the answer begins with a thought."""
        begin = self._text.lstrip()
        if begin.startswith(THOUGHT):
            self._begun = self._thinking = True
        # "<th" may still become the tag: it waits for more text.
        elif ended or not THOUGHT.startswith(begin):
            self._begun = True
        return []

    def _read_thought(self, ended: bool) -> list[Piece]:
        """Releases the text of a thought as it is."""
        end = self._text.find(CLOSE, self._at)
        if end >= 0:
            self._thinking, end = False, end + len(CLOSE)
        else:
            # The longest end of the text that may begin </think> is held back; n = 0 always fits.
            kept = 0 if ended else max(n for n in range(len(CLOSE)) if self._text.endswith(CLOSE[:n]))
            end = max(self._at, len(self._text) - kept)
        return self._release(end)

    def _find_opening(self, ended: bool) -> list[Piece]:
        """Releases the text before the next opening, or before what may become one."""
        opening, mark, hidden = (
            pattern.search(self._text, self._at, partial=not ended) if pattern else None
            for pattern in (self._form and self._form.before, self._form and self._form.begin, self._hidden)
        )
        # The first in the text counts; of those at one place, the opening.
        places = [found for found in (opening, mark, hidden) if found is not None]
        first = min(places, key=lambda found: found.start(), default=None)
        end = len(self._text) if first is None else first.start()
        if first is None or first.partial:
            # Blanks before a call do not count as text, so that they wait too.
            blanks = 0 if ended else end - self._at - len(self._text[self._at : end].rstrip())
            return self._release(end - blanks)
        released = self._release(end)
        if first is hidden:
            self._at = hidden.end()
            return released
        self._opened = first
        # Blanks between a text and a call belong to neither.
        return [piece.rstrip() if isinstance(piece, str) else piece for piece in released]

    def _release(self, end: int) -> list[Piece]:
        text, self._at = self._text[self._at : end], end
        return [text] if text else []

    def _skip_tail(self, ended: bool) -> list[Piece]:
        """Skips the blanks after a call, and the text that closes the list of calls."""
        assert self._form is not None
        rest, tail = self._text[self._at :].lstrip(), self._form.tail
        # The rest may become the tail: wait for more text.
        if not ended and tail.startswith(rest):
            return []
        self._after = bool(tail) and rest.startswith(tail)
        self._at = len(self._text) - len(rest) + (len(tail) if self._after else 0)
        return []

    def _read_body(self, ended: bool) -> list[Piece]:
        """Reads the calls after an opening, once they are complete."""
        assert self._form is not None
        named = self._opened.groupdict()
        opening = CallOpening((named.get("name") or "").strip(), named.get("id") or "", self._parameters)
        try:
            if self._opened.re is not self._form.before:
                raise BrokenBody(self._opened.end(), message("the call does not begin with the name of a function"))
            calls, end = self._form.read(self._text, self._opened.end(), opening, self._form.after)
            self._at = self._find_end(end, ended)
        except BrokenBody as broken:
            # More text may complete a body that is not final.
            return self._skip_damage(broken, ended) if broken.final or ended else []
        self._opened, self._after = None, True
        return list(calls)

    def _find_end(self, at: int, ended: bool) -> int:
        """Returns the position after the closing of a call. Raises BrokenBody if there is none."""
        assert self._form is not None
        if self._form.after is None:
            return at
        found = self._form.after.match(self._text, at, partial=not ended)
        if found is not None and (found.partial or (not ended and found.end() == at)):
            raise BrokenBody(at, ENDS_EARLY, final=False)
        rest = at + len(self._text[at:]) - len(self._text[at:].lstrip())
        if found is not None:
            return int(found.end())
        # An answer may end with its last call, whose closing is a stop token; and a model may forget one.
        if (ended and rest == len(self._text)) or self._form.before.match(self._text, rest):
            return rest
        raise BrokenBody(at, message("more text follows before the end of the call"))

    def _skip_damage(self, broken: BrokenBody, ended: bool) -> list[Piece]:
        """Ends a damaged call at its closing, before the next call, or at the end of the answer."""
        assert self._form is not None
        at = max(broken.at, self._opened.end())
        following = self._form.before.search(self._text, at)
        ends = [following.start()] if following else []
        if self._form.after is not None and (closing := self._form.after.search(self._text, at)):
            ends.append(closing.end())
        if not ends and not ended:
            return []
        begin, self._at = self._opened.start(), min(ends, default=len(self._text))
        self._opened, self._after = None, True
        return [DamagedCall(self._text[begin : self._at].rstrip(), broken.reason)]


def parse_calls(
    form: CallForm | None, text: str, tools: Sequence[Mapping[str, Any]] = (), *, thinking: bool = False,
    hidden: Iterable[str] = (),
) -> ParsedAnswer:
    """Reads a whole answer; see CallParser."""
    parser, parsed = CallParser(form, tools, thinking=thinking, hidden=hidden), ParsedAnswer()
    parts: list[str] = []
    for piece in [*parser.feed(text), *parser.finish()]:
        if isinstance(piece, ParsedCall):
            parsed.calls.append(piece)
        elif isinstance(piece, DamagedCall):
            parsed.damaged.append(piece)
            parts.append(piece.text)
        else:
            parts.append(piece.strip())
    parsed.text = "\n".join(part for part in parts if part)
    return parsed


def read_back(
    form: CallForm, text: str, tools: Sequence[Mapping[str, Any]]
) -> tuple[list[Mapping[str, Any]], str]:
    """Returns the functions that a text calls, with their arguments, and the rest of the text."""
    parsed = parse_calls(form, text, tools)
    return [call.to_dict()["function"] for call in parsed.calls], parsed.text


def _list_parameters(tools: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Returns the declared parameters of each function."""
    found: dict[str, Mapping[str, Any]] = {}
    for tool in tools:
        function = tool.get("function", tool)
        parameters = function.get("parameters") if isinstance(function, Mapping) else None
        properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
        if isinstance(properties, Mapping):
            found[str(function.get("name"))] = properties
    return found


def _compile_hidden(texts: Iterable[str]) -> Any:
    """Returns the pattern of the texts to leave out, longer ones first; None if there are none."""
    found = sorted({text for text in texts if text}, key=lambda text: (-len(text), text))
    return regex.compile("|".join(map(regex.escape, found))) if found else None
