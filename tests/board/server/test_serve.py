"""The command in a process of its own: its address, its port, its end, what it loads, and what it refuses."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.board.server.client import make_board
from tests.board.server.live import wait_until

from fulgurite.board.server import serve as module
from fulgurite.board.server.serve import (
    PASSWORD,
    ServeOptions,
    announce,
    build_board,
    check_certificate,
    check_exposure,
    has_display,
    make_printer,
    open_socket,
)
from fulgurite.config.hosts import is_loopback, list_hosts, list_names
from fulgurite.errors import ConfigError
from fulgurite.language.current import use_language

QUIET = {"DISPLAY": "", "WAYLAND_DISPLAY": "", "FULGURITE_LANG": "en"}
HEAVY = ("torch", "transformers", "lightning", "pyarrow", "wandb", "peft", "hydra", "numpy")
CODE = f"""
import sys
from fulgurite.cli.main import main
status = main(sys.argv[1:])
print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)
sys.exit(status)
"""


@contextlib.contextmanager
def start(folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], str, float]]:
    """Starts the command; yields the process, the printed address, and the seconds until it was printed."""
    began = time.monotonic()
    line = [sys.executable, "-c", CODE, "board", "--no-browser", *words]
    environment = os.environ | QUIET | {"FULGURITE_CACHE": str(folder / "cache")}
    with subprocess.Popen(
        line, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http\S+", process.stdout.readline())
            assert found, process.communicate()
            yield process, found[0], time.monotonic() - began
        finally:
            process.kill()


def fetch(address: str) -> int:
    """Returns the status of an answer without a cookie; redirects are followed."""
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    try:
        with opener.open(address, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_the_server_without_a_traceback(tmp_path: Path, number: signal.Signals) -> None:
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("nohup makes this process and its children ignore the signal")
    with start(tmp_path) as (process, address, _):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{43}", address)
        assert fetch(address) == 200  # follows to / with the cookie
        assert fetch(address) == 401  # the token is used
        bare = address.partition("?")[0]
        with socket.create_connection(("127.0.0.1", int(address.split(":")[2].partition("/")[0]))):
            process.send_signal(number)
            out, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert err == "[]\n"  # no traceback, no log, and nothing heavy was loaded
    # a used address is replaced, once
    assert len(re.findall(rf"{bare}\?token=", out)) == 1


def test_start_takes_less_than_a_second(tmp_path: Path) -> None:
    """Measures the processor time, which other processes do not change."""
    with start(tmp_path) as (process, address, _):
        assert fetch(address.partition("?")[0]) == 401
        user, system = (int(field) for field in Path(f"/proc/{process.pid}/stat").read_text().split()[13:15])
        assert (user + system) / os.sysconf("SC_CLK_TCK") < 1.0


def test_key_and_cache_are_private(tmp_path: Path) -> None:
    with start(tmp_path):
        cache = tmp_path / "cache" / "board"
        assert stat.S_IMODE(cache.stat().st_mode) == 0o700
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in cache.rglob("*") if path.is_file()}
    assert modes
    assert set(modes.values()) == {0o600}


def test_server_listens_on_this_machine_alone(tmp_path: Path) -> None:
    with start(tmp_path) as (_, address, _):
        port = int(address.split(":")[2].partition("/")[0])
        text = "".join(Path(f"/proc/net/{name}").read_text() for name in ("tcp", "tcp6"))
    bound = [(fields[1], fields[3]) for fields in map(str.split, text.splitlines())]
    listening = [place for place, state in bound if state == "0A" and place.endswith(f":{port:04X}")]
    assert listening == [f"0100007F:{port:04X}"]


def test_taken_port_is_one_line_and_the_next_one_is_used(tmp_path: Path) -> None:
    with open_socket("127.0.0.1", None) as first, open_socket("127.0.0.1", None) as second:
        port, other = (taken.getsockname()[1] for taken in (first, second))
        assert other > port
        with pytest.raises(ConfigError, match=f"Port {port} of 127.0.0.1 cannot be used .*; leave out --port"):
            open_socket("127.0.0.1", port)
    with open_socket("127.0.0.1", port) as again:  # free at once after its server has gone
        assert again.getsockname()[1] == port
    with pytest.raises(ConfigError, match="cannot be used"):
        open_socket("no-such-host.invalid", 1)


@pytest.mark.parametrize("host", [
    "0.0.0.0", "::", "192.168.0.1", "example.org", "", "127.0.0.1.example.org", "0", "127.1",
])
@pytest.mark.parametrize("given", ["nothing", "password", "tls"])
def test_other_hosts_need_tls_and_a_password(host: str, given: str) -> None:
    tls = {"tls_cert": "c", "tls_key": "k"} if given == "tls" else {}
    with pytest.raises(ConfigError, match="lets other machines reach the board"):
        check_exposure(ServeOptions(host=host, **tls), "x" * 20 if given == "password" else "")
    check_exposure(ServeOptions(host=host, tls_cert="c", tls_key="k"), "x" * 20)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.0.0.5"])
def test_loopback_needs_nothing_and_prints_an_address_that_answers(tmp_path: Path, host: str) -> None:
    assert is_loopback(host)
    with open_socket(host, None) as listener:
        shown = announce(make_board(tmp_path), host).split("/")[2].rpartition(":")[0]
        socket.create_connection((shown.strip("[]"), listener.getsockname()[1]), timeout=20).close()
    assert f"{shown}:1" in list_hosts(tuple(list_names(host)), 1)
    check_exposure(ServeOptions(host=host), "")


def test_half_of_the_tls_files_and_short_passwords_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="belong together"):
        check_exposure(ServeOptions(tls_cert="c"), "")
    with pytest.raises(ConfigError, match="fewer than 12 characters"):
        check_exposure(ServeOptions(), "short")
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate", encoding="utf-8")
    for path in (wrong, tmp_path / "missing"):
        with pytest.raises(ConfigError, match="cannot be used"):
            check_certificate(ServeOptions(tls_cert=str(path), tls_key=str(path)))


def test_refusals_of_the_command_are_one_line(tmp_path: Path) -> None:
    for words, expected in (
        (["--host", "0.0.0.0"], "lets other machines reach the board"), (["--port", "0"], "a number from 1 to 65535"),
        (["nothing"], "is not a folder"), (["/"], "does not show the whole disk"), (["--share"], "has no flag --share"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "fulgurite", "board", "--no-browser", *words], cwd=tmp_path, text=True, check=False,
            capture_output=True, env=os.environ | QUIET,
        )
        assert done.returncode == 2
        assert done.stdout == ""
        assert expected in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_password_is_not_inherited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD, "a long password")
    with pytest.raises(ConfigError):
        module.serve(ServeOptions(folders=[str(tmp_path / "nothing")]))
    assert PASSWORD not in os.environ


def test_board_of_the_network_answers_to_its_own_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FULGURITE_CACHE", str(tmp_path))
    options = ServeOptions(host="board.example.org", tls_cert="c", tls_key="k")
    board = build_board(options, make_board(tmp_path).roots, 443, "a long password")
    assert board.hosts == {"board.example.org:443", "board.example.org"}
    assert (board.scheme, board.sessions.secure, board.sessions.has_password) == ("https", True, True)
    assert {"127.0.0.1", socket.gethostname()} <= set(list_names("0.0.0.0"))
    assert list_names("fe80::1") == ["[fe80::1]"]


def test_address_has_a_token_unless_there_is_a_password(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address = announce(make_board(tmp_path), "127.0.0.1")
    assert f"Fulgurite board: {address}\n" == capsys.readouterr().out
    assert announce(make_board(tmp_path, password="a long password"), "127.0.0.1") == "http://127.0.0.1:7878/"


def test_new_address_is_in_the_language_of_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    print_address = make_printer(make_board(tmp_path), "127.0.0.1")
    with use_language("zh"):
        print_address()
    assert capsys.readouterr().out.startswith("Fulgurite board: http")

    def break_pipe(board: object, host: str) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(module, "announce", break_pipe)
    print_address()  # the page is answered, although nobody reads the terminal


def test_lazy_board_waits_for_the_first_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(module, "create_app", lambda board, warms_up: asked.append(warms_up))
    for lazy in (False, True):
        module.build_config(make_board(tmp_path), ServeOptions(lazy=lazy))
    assert asked == [True, False]


def test_browser_needs_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert not has_display()
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert has_display()


def test_browser_is_opened_with_a_token_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is served: the server's loop is replaced, and the browser by a list."""
    opened: list[str] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FULGURITE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "has_display", lambda: True)
    monkeypatch.setattr(module.webbrowser, "open", opened.append)
    monkeypatch.setattr(module, "follow_terminal", lambda server: None)
    printed: list[str] = []
    monkeypatch.setattr(module, "announce", lambda board, host: printed.append(board.sessions.make_token()))

    def run(server: module.Server, sockets: list[socket.socket]) -> None:
        wait_until(lambda: bool(opened))
        [token] = printed
        address = re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=(.*)", opened[0])
        assert address
        assert address[1] != token
        assert server.board.sessions.use_token(address[1], os.geteuid())
        assert server.board.sessions.use_token(token)

    monkeypatch.setattr(module.Server, "run", run)
    assert module.serve(ServeOptions()) == 0
    monkeypatch.setattr(module.Server, "run", lambda server, sockets: None)
    assert module.serve(ServeOptions(browser=False)) == 0
    assert len(opened) == 1


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_board_of_the_network_asks_for_the_password_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True,
    )
    monkeypatch.setenv(PASSWORD, "a long password")
    words = ["--host", "0.0.0.0", "--tls-cert", str(cert), "--tls-key", str(key)]
    with start(tmp_path, *words) as (process, address, _):
        assert address.startswith(f"https://{socket.gethostname()}:")
        assert "token" not in address
        own = f"https://localhost:{address.split(':')[2].strip('/')}"
        with httpx.Client(base_url=own, verify=ssl._create_unverified_context(), headers={"origin": own}) as client:
            assert '<form id="login">' in client.get("/").text
            assert client.get("/api/texts").status_code == 401
            assert client.post("/api/login", json={"password": "a wrong password"}).status_code == 401
            opened = client.post("/api/login", json={"password": "a long password"})
            assert opened.headers["set-cookie"].startswith("__Host-fulgurite_board_")
            assert "Secure" in opened.headers["set-cookie"]
            assert client.get("/api/texts").status_code == 200
            assert client.get("/api/texts", headers={"host": "evil.example"}).status_code == 403
        process.terminate()
        assert process.communicate(timeout=20)[1] == "[]\n"
