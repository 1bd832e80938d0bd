"""Every route of the board against hostile requests: routes that are added later are tested without a word here."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from starlette.routing import Route
from starlette.testclient import TestClient, httpx
from tests.board.server.client import make_board, make_client

from fulgurite.board.server import page_routes
from fulgurite.board.server.app import create_app

PACKAGE = Path(page_routes.__file__).resolve().parents[3]
PARAMETER = re.compile(r"{(\w+)(?::\w+)?}")
FREE = {"/", "/api/login", "/assets/{name:path}", "/favicon.ico"}
"""Routes that have tests of their own for a browser without a cookie."""


def list_all() -> list[Route]:
    """Returns every route of the application."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return [route for route in create_app(make_board(Path(folder))).routes if isinstance(route, Route)]


ROUTES = list_all()
PATHS = [route.path for route in ROUTES]
WITH_PARAMETER = [route for route in ROUTES if PARAMETER.search(route.path)]
READING = [route for route in ROUTES if "GET" in (route.methods or ())]
HOSTILE = [
    "..", "../secret", "../../secret", "a/../../secret", "..%2fsecret", "%2e%2e%2fsecret", "%252e%252e%252fsecret",
    "..%5csecret", "..\\secret", "a%00", "a%00.json", "%00", "/etc/passwd", "%2fetc%2fpasswd", "//etc/passwd",
    "/dev/zero", "%2fdev%2fzero", "/proc/self/environ", "out", "out/secret", "out%2fsecret", "../root_evil/secret",
    "..%2froot_evil%2fsecret", "ROOT/a", "%0d%0aX-Evil: 1", "0000000000000000", "ffffffffffffffff", "0" * 16 + "x",
    "FFFFFFFFFFFFFFFF", "a" * 3000, "<img onerror=alert(1)>", "${jndi:x}", "%ff%fe", "\u202e", "-1", "null",
    "__proto__",
]
OPENED: list[str] = []
_listening = False


def _hear(event: str, given: tuple[object, ...]) -> None:
    if _listening and event in ("open", "os.listdir", "os.scandir") and given and isinstance(given[0], str | bytes):
        OPENED.append(given[0].decode() if isinstance(given[0], bytes) else given[0])


sys.addaudithook(_hear)


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """Records every file and folder that is opened in the test."""
    global _listening
    OPENED.clear()
    _listening = True
    yield OPENED
    _listening = False


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Returns a root with a link that leads out of it, beside files that must not be read."""
    root = tmp_path / "root"
    for folder in (root, tmp_path / "root_evil", tmp_path / "outside"):
        folder.mkdir()
        (folder / "secret").write_text("KEEP-THIS-SECRET", encoding="utf-8")
    (tmp_path / "secret").write_text("KEEP-THIS-SECRET", encoding="utf-8")
    (root / "secret").unlink()
    (root / "out").symlink_to(tmp_path / "outside")
    return root


def check_inside(opened: list[str], root: Path) -> None:
    """Asserts that nothing was opened but the root, the board's cache, and the package's own files."""
    import sysconfig

    allowed = [root, root.parent / f"{root.name}-cache", PACKAGE, Path(sysconfig.get_paths()["stdlib"]),
               Path(sysconfig.get_paths()["purelib"]).resolve(), PACKAGE.parents[1]]
    outside = [path for path in opened if Path(path).is_absolute()
               and not any(Path(path).resolve().is_relative_to(folder) for folder in allowed)]
    assert not [path for path in outside if re.search(r"secret|passwd|/dev/zero|environ|root_evil|outside", path)]


@pytest.mark.parametrize("path", PATHS)
def test_route_needs_cookie_host_and_origin(root: Path, path: str) -> None:
    client = make_client(make_board(root), logged_in=False)
    address = PARAMETER.sub("0" * 16, path)
    if path not in FREE:
        assert client.get(address).status_code == 401
        assert client.post(address, json={}).status_code == 401
    client = make_client(make_board(root))
    for headers in ({"host": "evil.example"}, {"origin": "http://evil.example"}, {"origin": "null"},
                    {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}):
        assert client.get(address, headers=headers).status_code == 403
        assert client.post(address, json={}, headers=headers).status_code == 403
    for method in ("DELETE", "PATCH", "PUT", "OPTIONS", "TRACE"):
        assert client.request(method, address).status_code == 405
    assert client.post(address, data={"a": "b"}).status_code == 415


@pytest.mark.parametrize("path", [route.path for route in WITH_PARAMETER])
@pytest.mark.parametrize("word", HOSTILE)
def test_hostile_part_of_a_path_opens_nothing(root: Path, opened: list[str], path: str, word: str) -> None:
    route = next(route for route in WITH_PARAMETER if route.path == path)
    board = make_board(root)
    board.closing.set()  # a stream ends at once
    client = make_client(board)
    for method in route.methods or ():
        given = {} if method == "POST" else None
        for spelling in (word, quote(word, safe=""), quote(quote(word, safe=""), safe="")):
            if ".." in spelling.split("/"):  # the client would resolve it: test_protocol sends it as it is
                continue
            answered = send(client, method, PARAMETER.sub(lambda _, spelling=spelling: spelling, path), given)
            if answered is None:
                continue
            assert answered.status_code in (400, 404, 403, 405, 414, 422), answered.text
            assert "KEEP-THIS-SECRET" not in answered.text
    check_inside(opened, root)


@pytest.mark.parametrize("word", HOSTILE)
def test_hostile_path_of_a_query_opens_nothing(root: Path, opened: list[str], word: str) -> None:
    client = make_client(make_board(root))
    for spelling in (word, quote(word, safe=""), quote(quote(word, safe=""), safe="")):
        answered = client.get("/api/files", params={"path": spelling})
        assert answered.status_code in (403, 404)
        assert "KEEP-THIS-SECRET" not in answered.text
    check_inside(opened, root)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """Returns one browser for many requests, whose board starts each process once at the most."""
    root = tmp_path_factory.mktemp("root")
    (root.parent / "secret").write_text("KEEP-THIS-SECRET", encoding="utf-8")
    with make_client(make_board(root)) as client:  # one event loop, to which the processes belong
        yield client


@pytest.mark.parametrize("body", [{"draft": 3}, {"draft": []}, {"draft": "x"}, {"draft": {"choices": [], "values": 3}}])
@pytest.mark.parametrize("path", [route.path for route in ROUTES if "POST" in (route.methods or ())])
def test_draft_of_a_wrong_shape_is_refused_in_one_sentence(shared: TestClient, path: str, body: object) -> None:
    answered = shared.post(PARAMETER.sub("0" * 16, path), json=body)
    assert answered.status_code in (400, 401, 404, 422, 429), answered.text
    assert {"error", "words"} <= set(answered.json())
    assert "Traceback" not in answered.text


def test_routes_read_or_act_and_never_both() -> None:
    for route in ROUTES:
        assert route.methods in ({"GET", "HEAD"}, {"POST"}), route.path


@pytest.mark.parametrize("path", [route.path for route in READING])
def test_reading_has_no_effect(shared: TestClient, path: str) -> None:
    root = shared.app.state.board.roots.folders[0]  # type: ignore[attr-defined]
    address = PARAMETER.sub("0" * 16, path)
    for verb in ("HEAD",) if path.endswith("events") else ("HEAD", "GET"):  # a stream would not end
        answered = shared.request(verb, address)
        assert answered.status_code < 500
        assert not [name for name in answered.headers if name.startswith("access-control")]
        assert answered.headers["x-content-type-options"] == "nosniff"
    assert list(root.iterdir()) == []


@pytest.mark.skipif("/api/open" not in PATHS, reason="the route is missing")
@pytest.mark.parametrize("body", [{}, {"run": "../x"}, {"run": 3}, {"path": "../secret"}, {"path": "/etc/passwd"},
                                  {"path": 3}, {"path": ["a"]}, {"path": ""}, {"words": {}}, {"yaml": 3}])
def test_strange_file_to_open_is_refused_in_one_sentence(
    shared: TestClient, opened: list[str], body: dict[str, object]
) -> None:
    answered = shared.post("/api/open", json=body)
    assert answered.status_code in (400, 403, 404, 422), answered.text
    assert "KEEP-THIS-SECRET" not in answered.text
    assert not [path for path in opened if re.search(r"passwd|secret", path)]


def send(client: TestClient, method: str, address: str, given: object) -> Any:
    """Sends a request; returns nothing if a client would not even send such an address."""
    try:
        return client.request(method, address, json=given)
    except httpx.InvalidURL:
        return None
