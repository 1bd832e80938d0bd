"""A W&B server on loopback, as far as a run needs one, that can misbehave."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

PROJECT = {"id": "p", "name": "fulgurite", "entity": {"id": "e", "name": "me"}}
ARTIFACT = {"id": "a", "state": "COMMITTED", "artifactSequence": {"latestArtifact": {"id": "a"}}}
"""An artifact that the server has already, so that nothing is uploaded."""
WHOLE_ARTIFACT = {
    "__typename": "Artifact", "id": "a", "state": "COMMITTED", "versionIndex": 0, "artifactType": {"name": "dataset"},
    "artifactSequence": {
        "__typename": "ArtifactSequence", "name": "data-guide",
        "project": {"id": "p", "internalId": "1", "name": "fulgurite", "entity": {"name": "me"}},
    },
    "description": None, "metadata": "{}", "ttlDurationSeconds": 0, "ttlIsInherited": False, "tags": [],
    "historyStep": None, "size": 1, "digest": "d", "commitHash": "c", "fileCount": 1, "aliases": [],
    "createdAt": "2026-01-01T00:00:00", "updatedAt": None,
}
ANSWERS: tuple[tuple[str, dict[str, Any] | None], ...] = (
    ("CreateArtifact", {"createArtifact": {"artifact": ARTIFACT}}),
    ("ArtifactByID", {"artifact": WHOLE_ARTIFACT}),
    ("NotifyScriptableRunAlert", {"notifyScriptableRunAlert": {"success": True}}),
    ("UseArtifact", {"useArtifact": {"artifact": {"id": "a"}}}),
    ("UpsertBucket", {"upsertBucket": {
        "bucket": {"id": "r", "name": "r", "displayName": "r", "historyLineCount": 0, "project": PROJECT},
        "inserted": True,
    }}),
    ("RunResumeStatus", {"model": None}),
    ("ArtifactType", {"project": None}),
    ("CreateRunFiles", {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": []}}),
    ("viewer", {"viewer": {"entity": "me", "username": "me"}}),
)


class Server(http.server.ThreadingHTTPServer):
    """`kind`: ok, 401, 500, swallow, stranger (no W&B), unknown (key not known), redirect, drip (a byte at a time)."""

    daemon_threads = True

    def __init__(self, kind: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.kind, self.asked, self.keys = kind, 0, set[str]()
        self.bodies: list[str] = []
        self.target = ""
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode("utf-8", "replace")
        self.server.asked += 1
        self.server.bodies.append(body)
        self.server.keys.add(self.headers.get("Authorization") or "")
        kind = self.server.kind
        if kind == "swallow":
            self.server.released.wait(60)
            return
        if kind in ("401", "500"):
            self._reply(int(kind), b"")
        elif kind == "redirect":
            self._reply(302, b"", Location=self.server.target)
        elif kind == "stranger":
            self._reply(200, b"<html>hello</html>")
        elif kind == "drip":
            self._drip()
        elif kind == "unknown":
            self._reply(200, b'{"data": {"viewer": null}}')
        else:
            data = next((answer for word, answer in ANSWERS if word in body), None)
            self._reply(200, json.dumps({"data": data} if data and "file_stream" not in self.path else {}).encode())

    do_GET = do_PUT = do_POST

    def _reply(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _drip(self) -> None:
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            while not self.server.released.wait(0.05):
                self.wfile.write(b" ")
                self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def serving(kind: str) -> Iterator[Server]:
    """A server until the block ends."""
    server = Server(kind)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()


KEY = "0123456789abcdef0123456789abcdef01234567"


def closed_port() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{one.getsockname()[1]}"
