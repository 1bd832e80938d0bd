"""Uploads go to a hub on this machine, which keeps what it is sent; without token or network it is one sentence."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from huggingface_hub import constants

from fulgurite.config.export_arguments import Export
from fulgurite.errors import RequestError
from fulgurite.export.push import push_folder, read_token

TOKEN = "token-of-the-environment"


class HubHandler(BaseHTTPRequestHandler):
    """The three requests of an upload of small files."""

    seen: ClassVar[list[tuple[str, str | None, bytes]]] = []
    refuses = False

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.seen.append((self.path, self.headers.get("Authorization"), body))
        answer: dict[str, Any] = {"url": f"{constants.ENDPOINT}/me/model"}
        if "/preupload/" in self.path:
            files = json.loads(body)["files"]
            answer = {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
        if "/commit/" in self.path:
            answer = {"commitUrl": f"{constants.ENDPOINT}/me/model/commit/1", "commitOid": "1"}
        content = json.dumps(answer).encode()
        self.send_response(403 if self.refuses else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Prints nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[HubHandler]]:
    class Handler(HubHandler):
        seen: ClassVar[list[tuple[str, str | None, bytes]]] = []

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield Handler
    server.shutdown()
    server.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "out" / "deep").mkdir(parents=True)
    (tmp_path / "out" / "config.json").write_text("{}")
    (tmp_path / "out" / "deep" / "file.txt").write_text("x" * 1200)
    return tmp_path / "out"


@pytest.mark.parametrize("private", [True, False])
def test_every_file_arrives_in_one_commit(hub: type[HubHandler], folder: Path, private: bool) -> None:
    lines = [str(line) for line in push_folder(folder, Export(push="me/model", private=private))]
    created, commit = hub.seen[0], hub.seen[-1]
    assert created[0] == "/api/repos/create"
    assert json.loads(created[2])["visibility"] == ("private" if private else "public")
    assert {token for _, token, _ in hub.seen} == {f"Bearer {TOKEN}"}
    sent = [json.loads(line) for line in commit[2].splitlines()]
    files = {e["value"]["path"]: base64.b64decode(e["value"]["content"]) for e in sent if e["key"] == "file"}
    assert files == {"config.json": b"{}", "deep/file.txt": b"x" * 1200}
    assert lines[0] == f"Uploaded to {constants.ENDPOINT}/me/model/commit/1:"
    assert TOKEN not in "\n".join(lines)


def test_a_dry_run_sends_nothing_and_lists_sizes(hub: type[HubHandler], folder: Path) -> None:
    lines = [str(line).split() for line in push_folder(folder, Export(push="me/model", dry_run=True))][1:]
    assert lines == [["2", "config.json"], ["1,200", "deep/file.txt"], ["1,202", "bytes", "in", "all"]]
    assert hub.seen == []


def test_a_hub_that_refuses_is_one_sentence(hub: type[HubHandler], folder: Path) -> None:
    hub.refuses = True
    with pytest.raises(RequestError, match="hf upload me/model") as caught:
        push_folder(folder, Export(push="me/model"))
    assert TOKEN not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (folder / "config.json").is_file()


def test_without_token_or_network_nothing_begins(hub: type[HubHandler], monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_token("me/model") == TOKEN
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    with pytest.raises(RequestError, match="set HF_TOKEN"):
        read_token("me/model")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(RequestError, match="HF_HUB_OFFLINE is set"):
        read_token("me/model")
    assert hub.seen == []
