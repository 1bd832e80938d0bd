"""Silence: neither transformers' log nor a warning within, and everything as before afterwards."""

from __future__ import annotations

import warnings

import pytest
from transformers.utils import logging as transformers_logging

from fulgurite.model.quiet import silence


def test_logs_and_warnings_are_silent_within_and_only_there() -> None:
    logger, before = transformers_logging.get_logger("transformers.test"), transformers_logging.get_verbosity()
    with silence():
        assert not logger.isEnabledFor(transformers_logging.ERROR)
        warnings.warn("not shown", UserWarning, stacklevel=1)  # an error in these tests if it were
    assert transformers_logging.get_verbosity() == before
    with pytest.warns(UserWarning, match="shown"):
        warnings.warn("shown", UserWarning, stacklevel=1)


def test_an_error_within_is_raised_and_the_verbosity_restored() -> None:
    before = transformers_logging.get_verbosity()
    with pytest.raises(KeyError), silence():
        raise KeyError
    assert transformers_logging.get_verbosity() == before
