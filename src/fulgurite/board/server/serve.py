"""Starts the board: the socket, uvicorn, the printed address and the browser."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import ssl
import sys
import threading
import webbrowser
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType

import uvicorn

from fulgurite.board.roots import Roots
from fulgurite.board.server.app import create_app
from fulgurite.board.server.protocol import MOST_HEAD_BYTES, LimitedProtocol
from fulgurite.board.server.session import Sessions, load_key
from fulgurite.board.server.state import Board
from fulgurite.config.hosts import EVERYWHERE, is_loopback, list_hosts, list_names, listen, write_host
from fulgurite.data.cache import find_cache_root
from fulgurite.errors import ConfigError
from fulgurite.language.current import get_language, use_language
from fulgurite.language.library_errors import translate_system_error
from fulgurite.language.message import message

FIRST_PORT, MOST_PORTS = 7878, 50
"""The first port that is tried, and how many after it."""
PASSWORD = "FULGURITE_BOARD_PASSWORD"
SHORTEST_PASSWORD = 12


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """The flags of `fulgurite board`."""

    folders: Sequence[str] = ()
    port: int | None = None
    host: str = "127.0.0.1"
    browser: bool = True
    lazy: bool = False
    """Whether the process that makes plans waits for the first plan; else it starts with the board."""
    allow_code: bool = False
    tls_cert: str | None = None
    tls_key: str | None = None


class Server(uvicorn.Server):
    """uvicorn's server that ends streams first, and does not raise the signal that ended it."""

    def __init__(self, config: uvicorn.Config, board: Board) -> None:
        super().__init__(config)
        self.board = board

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ends the server; a second signal does not wait for answers that are under way."""
        # in this order: at the first signal should_exit is still false
        self.force_exit = self.should_exit
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends the streams, which would go on for ever, and then the server."""
        self.board.closing.set()
        await super().shutdown(sockets)


def serve(options: ServeOptions) -> int:
    """Serves the board until Ctrl-C or SIGTERM; returns 0. Raises ConfigError."""
    # Child processes do not inherit the password.
    password = os.environ.pop(PASSWORD, "")
    check_exposure(options, password)
    roots = Roots(options.folders)
    check_certificate(options)
    listener = open_socket(options.host, options.port)
    with listener:
        board = build_board(options, roots, listener.getsockname()[1], password)
        server = Server(build_config(board, options), board)
        board.print_address = make_printer(board, options.host)
        announce(board, options.host)
        print(message("Ctrl-C ends the board; runs that it started go on."), flush=True)
        if options.browser and has_display():
            opened = write_address(board, options.host, board.sessions.make_opener())
            threading.Thread(target=webbrowser.open, args=(opened,), daemon=True).start()
        follow_terminal(server)
        try:
            server.run(sockets=[listener])
        finally:
            board.close()  # a second Ctrl-C leaves out uvicorn's own end
    return 0


def follow_terminal(server: Server) -> None:
    """Ends the server as well when its terminal is closed; under nohup that signal is ignored, and stays so."""
    in_main = threading.current_thread() is threading.main_thread()
    if in_main and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, server.handle_exit)


def check_exposure(options: ServeOptions, password: str) -> None:
    """Raises ConfigError if other machines could reach the board without TLS and a password."""
    if bool(options.tls_cert) != bool(options.tls_key):
        raise ConfigError("--tls-cert and --tls-key belong together; give both files.")
    if password and len(password) < SHORTEST_PASSWORD:
        raise ConfigError(
            "{variable} has fewer than {least} characters; take a longer password.",
            variable=PASSWORD, least=SHORTEST_PASSWORD,
        )
    if not is_loopback(options.host) and not (password and options.tls_cert):
        raise ConfigError(
            "--host {host} lets other machines reach the board, which starts processes: give --tls-cert and --tls-key, "
            "and a password in the environment variable {variable}; or use `ssh -L` and leave out --host.",
            host=options.host, variable=PASSWORD,
        )


def check_certificate(options: ServeOptions) -> None:
    """Loads the TLS files once, so that a wrong one is refused before the server starts. Raises ConfigError."""
    if not options.tls_cert or not options.tls_key:
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # without a function for the passphrase, OpenSSL would ask for it on the terminal
        context.load_cert_chain(options.tls_cert, options.tls_key, password=lambda: "")
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            "The TLS files {cert} and {key} cannot be used ({reason}).",
            cert=options.tls_cert, key=options.tls_key, reason=translate_system_error(error),
        ) from error


def open_socket(host: str, port: int | None) -> socket.socket:
    """Returns a listening socket on the port, or on the first free one. Raises ConfigError."""
    tried = [port] if port is not None else range(FIRST_PORT, FIRST_PORT + MOST_PORTS)
    for number in tried:
        try:
            return listen(host, number)
        except OSError as error:
            reason = translate_system_error(error)
    if port is not None:
        raise ConfigError(
            "Port {port} of {host} cannot be used ({reason}); leave out --port for the next free one.",
            port=port, host=host, reason=reason,
        )
    raise ConfigError("No port of {host} can be used ({reason}); give one with --port.", host=host, reason=reason)


def build_board(options: ServeOptions, roots: Roots, port: int, password: str) -> Board:
    """Returns the board of these options."""
    cache = find_cache_root() / "board"
    scheme = "https" if options.tls_cert else "http"
    sessions = Sessions(load_key(cache), port, password, secure=scheme == "https")
    hosts = list_hosts(tuple(list_names(options.host)), port, scheme)
    return Board(roots, cache, sessions, port, options.allow_code, scheme, hosts)


def build_config(board: Board, options: ServeOptions) -> uvicorn.Config:
    """Returns uvicorn's settings: nothing logged, no header of its own, no proxy believed, no WebSocket."""
    return uvicorn.Config(
        create_app(board, warms_up=not options.lazy), http=LimitedProtocol, ws="none", loop="asyncio", log_config=None,
        log_level=logging.CRITICAL + 1, access_log=False, proxy_headers=False, server_header=False, date_header=True,
        h11_max_incomplete_event_size=MOST_HEAD_BYTES, timeout_keep_alive=15, timeout_graceful_shutdown=2,
        ssl_certfile=options.tls_cert, ssl_keyfile=options.tls_key,
    )


def write_address(board: Board, host: str, token: str) -> str:
    """Returns the address of the board with a token; without one if there is a password."""
    shown = socket.gethostname() if host in EVERYWHERE else write_host(host)
    address = f"{board.scheme}://{shown}:{board.port}/"
    return address if board.sessions.has_password else f"{address}?token={token}"


def announce(board: Board, host: str) -> str:
    """Prints the address with a new token, and returns it."""
    address = write_address(board, host, board.sessions.make_token())
    print(message("Fulgurite board: {address}", address=address), flush=True)
    return address


def make_printer(board: Board, host: str) -> Callable[[], None]:
    """Returns a function that prints a new address while the server runs, in the language of the terminal."""
    language = get_language()  # a request has the browser's

    def print_address() -> None:
        with use_language(language), contextlib.suppress(OSError, ValueError):  # the terminal may be gone
            announce(board, host)

    return print_address


def has_display() -> bool:
    """Returns whether a browser would have a window; in a bare terminal webbrowser would start lynx."""
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
