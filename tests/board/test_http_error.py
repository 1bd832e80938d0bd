"""A refusal with its own HTTP status."""

from __future__ import annotations

import pickle

from fulgurite.board.http_error import BusyError, HttpError
from fulgurite.language.message import message


def test_status_and_words_survive_a_process_boundary() -> None:
    error = pickle.loads(pickle.dumps(HttpError(404, message("There is nothing at this address."), "stage=sft")))
    assert (error.status, error.words, str(error)) == (404, "stage=sft", "There is nothing at this address.")


def test_only_a_busy_device_can_be_insisted_on() -> None:
    error = pickle.loads(pickle.dumps(BusyError(message("There is nothing at this address."))))
    assert (error.status, error.anyway, HttpError(422, message("There is nothing at this address.")).anyway) == (
        422, True, False,
    )
