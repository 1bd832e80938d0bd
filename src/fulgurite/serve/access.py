"""Who may ask a server: its key, and the names of its host."""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass
from pathlib import Path

from fulgurite.config.hosts import is_loopback, list_hosts, list_names
from fulgurite.config.serve_arguments import Serve, split_list
from fulgurite.errors import ConfigError
from fulgurite.language.library_errors import translate_system_error
from fulgurite.language.message import message
from fulgurite.text.console import say

KEY = "FULGURITE_SERVE_KEY"
"""The environment variable with the key."""
SHORTEST_KEY = 16


@dataclass(frozen=True, slots=True)
class Access:
    """What a server answers to: the values of Host and of Origin, and the key, empty if none is asked for."""

    hosts: frozenset[str]
    origins: tuple[str, ...] = ()
    key: str = ""

    def has_key(self, authorization: str) -> bool:
        """Returns whether a header `Authorization: Bearer KEY` has the key; the time does not depend on the key."""
        if not self.key:
            return True
        scheme, _, given = authorization.partition(" ")
        # The digests have one length: compare_digest would show that of the key.
        digests = [hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
                   for text in (given.strip(), self.key)]
        return hmac.compare_digest(*digests) and scheme.lower() == "bearer"


def build_access(config: Serve, port: int, key: str) -> Access:
    """Returns what a server on this port answers to."""
    further = [name for given in split_list(config.hosts) for name in (given.lower(), f"{given.lower()}:{port}")]
    hosts = list_hosts(tuple(list_names(config.host)), port) | {*further}
    return Access(hosts, tuple(split_list(config.origins)), key)


def read_key(config: Serve) -> str:
    """Returns the key of the file or the environment, empty if there is none; processes that are started later do not
    inherit it.

    Raises ConfigError for a key that is too short or cannot be sent, and if other machines could ask without one.
    """
    key = os.environ.pop(KEY, "")
    source = message("the environment variable {name}", name=KEY)
    if config.key_file is not None:
        key, source = _read_file(Path(config.key_file).expanduser()), message("{path}", path=config.key_file)
    if key and (len(key) < SHORTEST_KEY or not all("!" <= character <= "~" for character in key)):
        raise ConfigError(
            "The key in {source} must have at least {least} characters, letters, digits and signs without blanks; make "
            "one with `openssl rand -hex 32`.", source=source, least=SHORTEST_KEY,
        )
    if not key and not is_loopback(config.host):
        raise ConfigError(
            "host={host} lets other machines ask this server: give a key, in the environment variable {name} or with "
            "key_file=<file>; or leave out host, and use `ssh -L`.", host=config.host, name=KEY,
        )
    return key


def _read_file(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
        if path.stat().st_mode & 0o077:
            say(message("warning: other users may read the key in {path}; run chmod 600 on it.", path=path))
    except OSError as error:
        raise ConfigError(
            "key_file={path} cannot be read ({reason}).", path=path, reason=translate_system_error(error)
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError("key_file={path} is not a text file.", path=path) from error
    if not text:
        raise ConfigError("key_file={path} is empty; write the key into it.", path=path)
    return text
