"""Errors of a request, in the form of OpenAI's API."""

from __future__ import annotations

from typing import Any

from fulgurite.errors import FulguriteError
from fulgurite.language.message import UserMessage

INVALID = "invalid_request_error"
KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 500: "server_error",
         503: "server_error"}
"""OpenAI's types of errors by their HTTP status; the others are `invalid_request_error`."""


class ApiError(FulguriteError):
    """A request that is refused, with its HTTP status; `code` and `param` are OpenAI's."""

    def __init__(self, status: int, sentence: UserMessage, code: str | None = None, param: str | None = None) -> None:
        super().__init__(sentence)
        self.status, self.code, self.param = status, code, param

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.status, self.message, self.code, self.param)

    def to_body(self) -> dict[str, Any]:
        """Returns `{"error": {"message", "type", "param", "code"}}`."""
        kind = KINDS.get(self.status, INVALID)
        return {"error": {"message": str(self.message), "type": kind, "param": self.param, "code": self.code}}
