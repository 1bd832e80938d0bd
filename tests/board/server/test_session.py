"""Tokens count once; cookies are signed, end, and belong to one port; wrong passwords are slowed down."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from fulgurite.board.server.session import LIFE, MINUTE, OPENER_LIFE, TRIES, TRIES_IN_ALL, Sessions, load_key
from fulgurite.errors import ConfigError

KEY = b"k" * 32


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


def test_token_counts_once_and_only_the_last_one() -> None:
    sessions = Sessions(KEY, 1)
    assert not sessions.use_token("")
    old, token = sessions.make_token(), sessions.make_token()
    assert [sessions.use_token(given) for given in (old, token[:-1], token, token)] == [False, False, True, False]
    assert len(token) >= 43


def test_opener_counts_once_for_the_own_user_and_not_for_long() -> None:
    clock = Clock()
    sessions = Sessions(KEY, 1, now=clock)
    token, opener = sessions.make_token(), sessions.make_opener()
    assert not sessions.use_token(opener, os.geteuid() + 1)  # a guess by another user does not use it up
    assert [sessions.use_token(opener, os.geteuid()) for _ in range(2)] == [True, False]
    assert sessions.use_token(sessions.make_opener())  # a system that does not tell who has connected
    late = sessions.make_opener()
    clock.time += OPENER_LIFE
    assert not sessions.use_token(late)
    assert not sessions.is_token_used
    assert sessions.use_token(token, os.geteuid() + 1)  # the printed one is seen by nobody else


def test_cookie_ends() -> None:
    clock = Clock()
    sessions = Sessions(KEY, 1, now=clock)
    cookie = sessions.make_cookie()
    clock.time += LIFE - 1
    assert sessions.is_valid(cookie)
    clock.time += 1
    assert not sessions.is_valid(cookie)


def test_cookie_survives_a_restart_but_no_other_key_port_or_password() -> None:
    cookie = Sessions(KEY, 1).make_cookie()
    assert Sessions(KEY, 1).is_valid(cookie)
    others = [Sessions(KEY, 2), Sessions(b"x" * 32, 1), Sessions(KEY, 1, "password")]
    assert not any(other.is_valid(cookie) for other in others)


def test_forged_cookies_are_refused() -> None:
    sessions = Sessions(KEY, 1)
    end, number, signature = sessions.make_cookie().split(".")
    longer = str(int(end) + 1)
    for forged in ("", ".", "..", "a.b.c", f"{longer}.{number}.{signature}", f"{end}.{number}.", f"{end}..{signature}",
                   f"{end}.{number}.{signature}0", f"{end}.{number}.{signature.upper()}", "é.ü.ß", "\ud800"):
        assert not sessions.is_valid(forged)


def test_names_of_cookies_differ_by_port() -> None:
    assert Sessions(KEY, 1).name == "fulgurite_board_1"
    assert Sessions(KEY, 2, secure=True).name == "__Host-fulgurite_board_2"


def test_wrong_passwords_are_limited_per_address_and_in_all() -> None:
    clock = Clock()
    sessions = Sessions(KEY, 1, "right", now=clock)
    assert sessions.use_password("right", "a") is True
    assert [sessions.use_password("wrong", "a") for _ in range(TRIES)] == [False] * TRIES
    assert sessions.use_password("right", "a") is None  # even the right one, which a guess could be
    assert sessions.use_password("right", "b") is True
    for number in range(TRIES_IN_ALL - TRIES):
        assert sessions.use_password("wrong", str(number)) is False
    assert sessions.use_password("right", "c") is None
    clock.time += MINUTE + 1
    assert sessions.use_password("right", "a") is True


def test_without_a_password_none_is_right() -> None:
    sessions = Sessions(KEY, 1)
    assert not sessions.has_password
    assert sessions.use_password("", "a") is False


def test_key_is_kept_and_private(tmp_path: Path) -> None:
    cache = tmp_path / "cache" / "board"
    old = os.umask(0)
    try:
        key = load_key(cache)
    finally:
        os.umask(old)
    assert load_key(cache) == key
    assert len(key) == 32
    assert stat.S_IMODE((cache / "key").stat().st_mode) == 0o600
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700


@pytest.mark.parametrize("damage", ["short", "shared", "link"])
def test_key_that_others_may_know_is_replaced(tmp_path: Path, damage: str) -> None:
    key = load_key(tmp_path)
    path = tmp_path / "key"
    if damage == "short":
        path.write_bytes(b"")
    elif damage == "shared":
        path.chmod(0o644)
    else:
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    fresh = load_key(tmp_path)
    assert fresh != key
    assert load_key(tmp_path) == fresh
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600


def test_cache_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="set FULGURITE_CACHE"):
        load_key(tmp_path / "file")
