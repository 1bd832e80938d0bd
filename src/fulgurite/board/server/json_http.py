"""JSON of requests and answers, and errors as answers."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from starlette.requests import Request
from starlette.responses import Response

from fulgurite.board.http_error import HttpError
from fulgurite.config.secrets import KEY
from fulgurite.errors import FulguriteError
from fulgurite.language.current import LANGUAGES, get_language
from fulgurite.language.message import message

SECRET_NAME = re.compile(r"key|token|secret|passw|credential", re.IGNORECASE)
"""Names of environment variables whose values never leave the server."""
SHORTEST = 10
"""Characters of the shortest value that is taken for a secret; shorter ones are words."""
HIDDEN = "***"


async def read_json(request: Request) -> dict[str, Any]:
    """Returns the JSON object of a request. Raises HttpError; the security middleware limits size, time and type."""
    body = await request.body()
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
        # A lone surrogate (\\ud800) is no character: it could be neither written to a file nor sent back.
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        raise HttpError(400, message("The body of the request is not JSON in UTF-8.")) from None
    if not isinstance(value, dict):
        raise HttpError(400, message("The body of the request must be a JSON object."))
    return value


def answer(data: Any, status: int = 200) -> Response:
    """Returns data as a JSON answer: sentences become text in the language in use, NaN and infinity null."""
    return Response(dump_json(data), status, media_type="application/json")


def answer_error(error: HttpError | FulguriteError) -> Response:
    """Returns an error as an answer: its sentence, the words that would help, and whether the request can insist."""
    status, words = (error.status, error.words) if isinstance(error, HttpError) else (422, "")
    insist = {"anyway": True} if isinstance(error, HttpError) and error.anyway else {}
    return answer({"error": str(error), "words": words} | insist, status)


def dump_json(data: Any) -> str:
    """Returns data as one line of JSON, without any secret of the environment."""
    try:
        text = json.dumps(data, ensure_ascii=False, allow_nan=False, default=str, separators=(",", ":"))
    except ValueError:
        text = json.dumps(_replace_nan(data), ensure_ascii=False, default=str, separators=(",", ":"))
    return hide_secrets(text)


def hide_secrets(text: str) -> str:
    """Returns text without keys of known forms, and without the values of the environment's secrets."""
    for name, value in os.environ.items():
        if len(value) >= SHORTEST and SECRET_NAME.search(name) and value in text:
            text = text.replace(value, HIDDEN)
    return KEY.sub(HIDDEN, text)


def choose_language(asked: str | None) -> str:
    """Returns the language that a request asks for, else that of the terminal."""
    return asked if asked in LANGUAGES else get_language()


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity are no JSON


def _replace_nan(data: Any) -> Any:
    if isinstance(data, float) and not math.isfinite(data):
        return None
    if isinstance(data, Mapping):
        return {name: _replace_nan(value) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [_replace_nan(value) for value in data]
    return data
