"""The error of a request that is refused with a status of its own."""

from __future__ import annotations

from fulgurite.errors import FulguriteError
from fulgurite.language.message import UserMessage


class HttpError(FulguriteError):
    """A request that is refused, with its HTTP status; `words` are the words of a command line that would help.

    Any other FulguriteError of a route is answered with 422.
    """

    anyway = False
    """Whether the same request with `"anyway": true` is not refused."""

    def __init__(self, status: int, sentence: UserMessage, words: str = "") -> None:
        super().__init__(sentence)
        self.status = status
        self.words = words

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.status, self.message, self.words)


class BusyError(HttpError):
    """Another run has the device; the request can insist."""

    anyway = True

    def __init__(self, sentence: UserMessage) -> None:
        super().__init__(422, sentence)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.message,)
