"""`fulgurite board`: the page in a browser."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from fulgurite.cli.parser import parse
from fulgurite.errors import ConfigError

PACKAGES = ("starlette", "uvicorn")
"""What the extra `board` installs."""


def board_main(words: Sequence[str]) -> int:
    """Serves the board until it is stopped; returns 0. Raises ConfigError."""
    given = parse("board", words)
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigError(
            "`fulgurite board` needs {packages}, which are not installed: pip install -e '.[board]'.",
            packages=", ".join(missing),
        )
    from fulgurite.board.server.serve import ServeOptions, serve

    return serve(ServeOptions(
        folders=given.words, port=given.port, host=given.host, browser=not given.no_browser, lazy=given.lazy,
        allow_code=given.allow_code, tls_cert=given.tls_cert, tls_key=given.tls_key,
    ))
