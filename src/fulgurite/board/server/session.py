"""Who may use the board: the one-time token of the printed address, the password, and the signed cookie that both
become."""

# itsdangerous signs cookies too; these are twenty lines of hmac, and one package fewer.

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from fulgurite.errors import ConfigError
from fulgurite.files.atomic import PRIVATE_FOLDER, write_file
from fulgurite.language.library_errors import translate_system_error

LIFE = 30 * 24 * 3600
"""Seconds that a cookie is valid."""
OPENER_LIFE = 300
"""Seconds that a browser may take to start."""
KEY_BYTES = 32
TRIES, TRIES_IN_ALL, MINUTE = 5, 30, 60.0
"""Wrong passwords that are answered in a minute, from one address and from all of them."""


class Sessions:
    """Tokens, passwords and cookies of one port."""

    def __init__(
        self, key: bytes, port: int, password: str = "", secure: bool = False, now: Callable[[], float] = time.time
    ) -> None:
        # A cookie is bound to the password: with a new one, every browser has to log in again.
        self._key = hmac.digest(key, b"fulgurite board\0" + password.encode(), "sha256")
        self._password = _hash(password) if password else b""
        self._token, self._used = _hash(secrets.token_urlsafe()), False
        self._opener, self._opener_end = _hash(secrets.token_urlsafe()), 0.0
        self._now = now
        self._failed: deque[tuple[float, str]] = deque()
        self.port = port
        self.secure = secure
        # The same host keeps cookies for all of its ports: the name separates them, and the signature has the port.
        # The prefix makes a browser insist on HTTPS, the path / and no domain.
        self.name = f"{'__Host-' if secure else ''}fulgurite_board_{port}"

    @property
    def has_password(self) -> bool:
        """Whether a password opens the board."""
        return bool(self._password)

    def make_token(self) -> str:
        """Returns a new token; the one before is worth nothing from now on."""
        token = secrets.token_urlsafe(32)
        self._token, self._used = _hash(token), False
        return token

    @property
    def is_token_used(self) -> bool:
        """Whether the last token has been used, so that no address opens the board any more."""
        return self._used

    def make_opener(self) -> str:
        """Returns a token for a browser that the board starts itself, good for some minutes.

        It is a word of the browser's command line, which every user of the machine can see, so that it counts only
        for a connection of the board's own user.
        """
        token = secrets.token_urlsafe(32)
        self._opener, self._opener_end = _hash(token), self._now() + OPENER_LIFE
        return token

    def use_token(self, token: str, user: int | None = None) -> bool:
        """Returns whether a token is the printed one or the opener; each counts once. `user` connected, if known."""
        given = _hash(token)
        if hmac.compare_digest(given, self._opener):
            if self._now() >= self._opener_end or user not in (None, os.geteuid()):
                return False
            self._opener = _hash(secrets.token_urlsafe())
            return True
        right = hmac.compare_digest(given, self._token)
        if right:
            self._token, self._used = _hash(secrets.token_urlsafe()), True
        return right

    def use_password(self, password: str, client: str) -> bool | None:
        """Returns whether a password is right; nothing if there were too many wrong ones in the last minute."""
        now = self._now()
        while self._failed and self._failed[0][0] < now - MINUTE:
            self._failed.popleft()
        if len(self._failed) >= TRIES_IN_ALL or sum(address == client for _, address in self._failed) >= TRIES:
            return None
        right = self.has_password and hmac.compare_digest(_hash(password), self._password)
        if not right:
            self._failed.append((now, client))
        return right

    def make_cookie(self) -> str:
        """Returns the value of a new cookie: when it ends, a random number, and the signature of both."""
        body = f"{int(self._now()) + LIFE}.{secrets.token_hex(8)}"
        return f"{body}.{self._sign(body)}"

    def is_valid(self, cookie: str) -> bool:
        """Returns whether a cookie is one of ours, of this port, and not yet expired."""
        body, _, signature = cookie.rpartition(".")
        if not hmac.compare_digest(_hash(signature), _hash(self._sign(body))):
            return False
        return self._now() < int(body.partition(".")[0])  # signed by us, so it is a number

    def _sign(self, body: str) -> str:
        return hmac.new(self._key, f"{self.port}:{body}".encode(), "sha256").hexdigest()


def load_key(cache: Path) -> bytes:
    """Returns the key that signs cookies. It is kept in the cache folder, so that a cookie survives a restart.

    Raises ConfigError if the folder cannot be written.
    """
    path = cache / "key"
    try:
        cache.mkdir(PRIVATE_FOLDER, parents=True, exist_ok=True)
        cache.chmod(PRIVATE_FOLDER)
        if path.is_file() and not path.is_symlink():
            key = path.read_bytes()
            mode = path.stat()
            # A key that somebody else could have written or read is replaced.
            if len(key) == KEY_BYTES and mode.st_uid == os.geteuid() and not mode.st_mode & 0o077:
                return key
            path.unlink()
        key = secrets.token_bytes(KEY_BYTES)
        write_file(path, key)
        return key
    except OSError as error:
        raise ConfigError(
            "The key of the board cannot be kept in {folder} ({reason}); set FULGURITE_CACHE to a folder of your own.",
            folder=cache, reason=translate_system_error(error),
        ) from error


def _hash(text: str) -> bytes:
    """Returns a digest: of equal length for all texts, so that a comparison takes the same time for each."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
