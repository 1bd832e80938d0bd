"""Foreign code cannot end the process, and its errors become ours."""

from __future__ import annotations

import sys

import pytest

from fulgurite.errors import ConfigError, Interrupted
from fulgurite.foreign_code import allow_interrupt, describe_error, is_interruptible, run_foreign


def test_an_exit_and_an_error_become_the_refusal() -> None:
    with pytest.raises(ConfigError, match=r"it called sys\.exit\(3\)"), run_foreign(ConfigError):
        sys.exit(3)
    with pytest.raises(ConfigError, match="ValueError: two lines"), run_foreign(ConfigError):
        raise ValueError("two\n lines")


def test_an_interrupt_and_our_own_errors_pass() -> None:
    with pytest.raises(Interrupted), run_foreign(ConfigError):
        raise KeyboardInterrupt
    with pytest.raises(Interrupted, match="ours"), run_foreign(ConfigError):
        raise Interrupted("ours")


def test_an_error_that_cannot_be_printed_is_named_by_its_class() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert describe_error(Mute()) == "Mute"


def test_a_block_is_interruptible_until_it_ends() -> None:
    assert not is_interruptible()
    with allow_interrupt():
        assert is_interruptible()
    assert not is_interruptible()
