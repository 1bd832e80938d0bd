"""Errors in OpenAI's form."""

from __future__ import annotations

import pickle

from fulgurite.language.message import message
from fulgurite.serve.api_error import ApiError


def test_an_error_has_the_four_fields_of_openai() -> None:
    error = ApiError(404, message("Out of memory; send a shorter request, or ask for a shorter answer."), "a", "model")
    assert error.to_body() == {"error": {
        "message": "Out of memory; send a shorter request, or ask for a shorter answer.", "type": "not_found_error",
        "param": "model", "code": "a",
    }}
    assert ApiError(422, error.message).to_body()["error"]["type"] == "invalid_request_error"
    again = pickle.loads(pickle.dumps(error))
    assert (again.status, again.to_body()) == (404, error.to_body())
