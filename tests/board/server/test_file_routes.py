"""The listing of folders answers with paths that can be asked for again."""

from __future__ import annotations

from pathlib import Path

from tests.board.server.client import make_board, make_client


def test_folders_are_walked_down_and_up(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "中 文 <img>.jsonl").write_text("{}", encoding="utf-8")
    client = make_client(make_board(tmp_path))
    top = client.get("/api/files").json()
    assert top == {
        "path": ".", "root": 0, "roots": ["."], "parent": None,
        "entries": [{"name": "data", "path": "data", "kind": "folder", "size": None}],
    }
    inner = client.get("/api/files", params={"path": top["entries"][0]["path"]}).json()
    assert (inner["path"], inner["parent"]) == ("data", ".")
    [file] = inner["entries"]
    assert file == {"name": "中 文 <img>.jsonl", "path": "data/中 文 <img>.jsonl", "kind": "file", "size": 2}
    assert client.get("/api/files", params={"path": inner["parent"]}).json() == top
    assert client.get("/api/files", params={"path": file["path"]}).status_code == 422
    assert client.get("/api/files?lang=zh", params={"path": "../x"}).status_code == 403
