"""`fulgurite serve`: the model of a run behind OpenAI's interface, until Ctrl-C or SIGTERM. Loads torch late."""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from fulgurite.config.chat_arguments import ChatConfig
from fulgurite.config.hosts import EVERYWHERE, is_loopback, listen, write_host
from fulgurite.config.serve_arguments import Serve, ServeEngine, read
from fulgurite.errors import ConfigError
from fulgurite.language.library_errors import translate_system_error
from fulgurite.language.message import message
from fulgurite.serve.access import Access, build_access, read_key
from fulgurite.text.console import say

if TYPE_CHECKING:
    import uvicorn

    from fulgurite.serve.chat_request import Served

PACKAGES = ("fastapi", "uvicorn", "openai")
"""What the extra `serve` installs."""
LAST_SECONDS = 5
"""How long answers that are cancelled at the end may take to tell their clients."""


def serve_main(words: Sequence[str]) -> int:
    """Runs `fulgurite serve run=...`. Returns the exit status. Raises FulguriteError."""
    allowed, config = read(words)
    key = read_key(config)
    if config.engine is ServeEngine.vllm:
        from fulgurite.serve.vllm import serve_with_vllm

        return serve_with_vllm(config, allowed, key)
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigError(
            "`fulgurite serve` needs {packages}, which are not installed: pip install -e '.[serve]'.",
            packages=", ".join(missing),
        )
    # The port is taken before the model is loaded: a taken one is refused at once, and early clients wait.
    with open_socket(config) as listener:
        say(message("Loading ..."))
        served = load_served(config, allowed)
        port = listener.getsockname()[1]
        server = build_uvicorn(served, build_access(config, port, key))
        announce(served, config, port, bool(key))
        server.run(sockets=[listener])
    return 0


def open_socket(config: Serve) -> socket.socket:
    """Returns a socket that listens. Raises ConfigError."""
    try:
        return listen(config.host, config.port)
    except OSError as error:
        raise ConfigError(
            "Port {port} of {host} cannot be used ({reason}); give another one with port=NUMBER, or port=0 for a free "
            "one.", port=config.port, host=config.host, reason=translate_system_error(error),
        ) from error


def load_served(config: Serve, allowed: Any) -> Served:
    """Loads the run exactly as `chat` does: an adapter stays beside its base. Raises FulguriteError."""
    from fulgurite.run.sources import choose_checkpoint
    from fulgurite.serve.chat import load_partner
    from fulgurite.serve.chat_request import Served

    partner = load_partner(ChatConfig(run=config.run, checkpoint=config.checkpoint), allowed)
    place = choose_checkpoint(Path(config.run).expanduser(), config.checkpoint)
    return Served(str(config.name), partner, config, int(place.stat().st_mtime))


def build_uvicorn(served: Served, access: Access) -> uvicorn.Server:
    """Returns the HTTP server: nothing logged, no proxy believed, no WebSocket; a signal ends it with status 0."""
    import uvicorn
    from starlette.middleware.cors import CORSMiddleware

    from fulgurite.serve.gate import ServeGate
    from fulgurite.serve.transformers_serving import build_app

    inner = build_app(served)
    app: Any = ServeGate(inner, access)
    if access.origins:
        app = CORSMiddleware(
            app, allow_origins=access.origins, allow_methods=["GET", "POST"], allow_headers=["*"], max_age=600
        )

    class ModelServer(uvicorn.Server):
        """uvicorn's server, which does not raise the signal again that ended it, and cancels answers at its end."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            """Ends the server; a second signal does not wait for answers that are under way."""
            self.force_exit = self.should_exit
            self.should_exit = True

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            """Ends the answers, each with an error that its client sees, and then the server."""
            inner.state.generator.close()
            await super().shutdown(sockets)

    server = ModelServer(uvicorn.Config(
        app, ws="none", loop="asyncio", log_config=None, log_level=logging.CRITICAL + 1, access_log=False,
        proxy_headers=False, server_header=False, timeout_graceful_shutdown=LAST_SECONDS,
    ))
    in_main = threading.current_thread() is threading.main_thread()
    if in_main and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, server.handle_exit)  # its terminal is closed
    return server


def announce(served: Served, config: Serve, port: int, has_key: bool) -> None:
    """Prints the address, who can reach it, and how it ends."""
    host = socket.gethostname() if config.host in EVERYWHERE else write_host(config.host)
    lines = [message("Serving {name} at {address}", name=served.name, address=f"http://{host}:{port}/v1")]
    if has_key:
        lines.append(message("Requests need the key, as `Authorization: Bearer KEY`."))
    else:
        lines.append(message("Every program of this machine may ask it; no key is set."))
    if not is_loopback(config.host):
        lines.append(message("warning: there is no TLS; put a proxy with TLS in front, because the key can be read."))
    lines.append(message("Ctrl-C ends it."))
    for line in lines:
        print(line, flush=True)
