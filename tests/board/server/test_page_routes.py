"""The page, its files, its texts and the guide."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.board.server.client import make_board, make_client

from fulgurite.board.server.page_routes import TYPES, list_assets
from fulgurite.board.texts import list_texts


def test_token_becomes_a_cookie_and_leaves_the_address(tmp_path: Path) -> None:
    board = make_board(tmp_path)
    client = make_client(board, logged_in=False)
    token = board.sessions.make_token()
    assert client.get("/").status_code == 401
    assert client.get("/api/texts").status_code == 401
    assert client.head("/", params={"token": token}).status_code == 401  # a preview of a link takes nothing
    opened = client.get("/", params={"token": token})
    assert (opened.status_code, opened.headers["location"]) == (303, "/")
    cookie = opened.headers["set-cookie"]
    assert cookie.startswith("fulgurite_board_7878=")
    for part in ("HttpOnly", "SameSite=strict", "Path=/", "Max-Age=2592000"):
        assert part in cookie
    assert "Secure" not in cookie
    assert "Domain" not in cookie
    assert client.get("/").status_code == 200
    assert client.get("/api/texts").status_code == 200
    assert client.get("/", params={"token": token}).headers["location"] == "/"  # opened again from the history


@pytest.mark.parametrize("token", ["", "x", "0" * 43, "%00", "é"])
def test_wrong_token_shows_how_to_open_the_board(tmp_path: Path, token: str) -> None:
    board = make_board(tmp_path)
    board.sessions.make_token()
    answer = make_client(board, logged_in=False).get(f"/?token={token}&lang=zh")
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert "fulgurite board" in answer.text
    assert '<html lang="zh">' in answer.text


def test_assets_have_types_and_tags(tmp_path: Path) -> None:
    client = make_client(make_board(tmp_path))
    for name, path in list_assets().items():
        answer = client.get(f"/assets/{name}")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == TYPES[path.suffix]
        assert answer.headers["cache-control"] == "no-cache"
        again = client.get(f"/assets/{name}", headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    assert client.get("/assets/vendor/htm-preact.js").headers["content-type"].startswith("text/javascript")


@pytest.mark.parametrize("name", [
    "", "nothing.js", "../server/app.py", "%2e%2e/server/app.py", "..%2fserver%2fapp.py", "%252e%252e%252fapp.py",
    "..%5capp.py", "/etc/passwd", "%2fetc%2fpasswd", "login.js%00", "LOGIN.JS", "vendor", "vendor/", "./login.js%2f",
    "vendor/../login.js/x",
])
def test_no_other_file_is_an_asset(tmp_path: Path, name: str) -> None:
    assert make_client(make_board(tmp_path)).get(f"/assets/{name}").status_code == 404


def test_only_the_login_needs_no_cookie(tmp_path: Path) -> None:
    client = make_client(make_board(tmp_path), logged_in=False)
    free = {name for name in list_assets() if client.get(f"/assets/{name}").status_code == 200}
    assert free == {"login.js", "login.css"}


def test_texts_are_in_the_language_asked_for(tmp_path: Path) -> None:
    client = make_client(make_board(tmp_path))
    english, chinese = (client.get("/api/texts", params={"lang": language}).json() for language in ("en", "zh"))
    assert english["lang"] == "en"
    assert chinese["lang"] == "zh"
    assert english["texts"] == {name: text.english for name, text in list_texts().items()}
    assert chinese["texts"]["shell.title"] == "Fulgurite 面板"


@pytest.mark.parametrize(("language", "other"), [("en", "zh"), ("zh", "en")])
def test_guide_obeys_the_policy(tmp_path: Path, language: str, other: str) -> None:
    page = make_client(make_board(tmp_path)).get("/guide", params={"lang": language}).text
    assert f'<html lang="{language}">' in page
    assert f'href="/guide?lang={other}"' in page
    assert '<link rel="stylesheet" href="/assets/guide.css">' in page
    assert '<script src="/assets/guide.js"></script>' in page
    # A data block is no script: the policy lets it pass.
    assert re.findall(r"<script[^>]*>", page) == [
        '<script type="application/json" id="answers">', '<script src="/assets/guide.js">',
    ]
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", page)


def test_login_with_a_password(tmp_path: Path) -> None:
    client = make_client(make_board(tmp_path, password="right"), logged_in=False)
    assert "password" in client.get("/").text
    for wrong in ({"password": "wrong"}, {"password": None}, {"password": ["right"]}, {}):
        assert client.post("/api/login", json=wrong).status_code == 401
    assert client.post("/api/login", json={"password": "right"}).json() == {"ok": True}
    assert client.get("/api/texts").status_code == 200
    for _ in range(2):
        refused = client.post("/api/login", json={"password": "wrong"})
    assert refused.status_code == 429
