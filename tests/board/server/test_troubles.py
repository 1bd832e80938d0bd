"""An unexpected error is one line on the terminal, and no detail in the browser."""

from __future__ import annotations

import logging

import pytest

from fulgurite.board.server.troubles import report_unexpected


def test_details_stay_on_the_terminal(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "fulgurite.board"):
        sentence = str(report_unexpected(KeyError(f"/home/me\n hf_{'a' * 30}")))
    assert "KeyError" in sentence
    assert "/home/me" not in sentence
    [record] = caplog.records
    assert "/home/me" in record.getMessage()
    assert "hf_" not in record.getMessage()
    assert "\n" not in record.getMessage()
    assert not record.exc_info
