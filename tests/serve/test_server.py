"""`fulgurite serve`: the command from its words to its end."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tests.board.server.live import wait_until
from tests.end_to_end.runs import tiny
from tests.forked import ForkedCommand
from tests.serve.live import make_partner, run_server

from fulgurite.cli.main import main
from fulgurite.config.chat_arguments import ChatConfig
from fulgurite.config.guard import Allowed
from fulgurite.config.hosts import listen
from fulgurite.config.run import load_options
from fulgurite.config.schema import list_options
from fulgurite.config.serve_arguments import Serve
from fulgurite.errors import ConfigError, ModelError
from fulgurite.serve import server
from fulgurite.serve.access import KEY
from fulgurite.serve.chat import ChatSession, Partner, load_partner
from fulgurite.serve.chat_request import Served
from fulgurite.serve.server import announce, load_served, open_socket, serve_main

load_options()
NEEDED = {"layerwise": ['method.rules=["last:1 full","rest lora rank=4"]']}
METHODS = tuple(list_options("method"))
OPEN = "Every program of this machine may ask it; no key is set."
CLOSED = "Requests need the key, as `Authorization: Bearer KEY`."
QUESTION = "What does warmup do?"


def chat(partner: Partner) -> str:
    """The greedy answer of `fulgurite chat`, without its note."""
    out = io.StringIO()
    ChatSession(partner, ChatConfig(run="x", temperature=0.0, max_new_tokens=12), out).hold(io.StringIO(QUESTION))
    return out.getvalue().removeprefix(f"> {QUESTION}\n").removesuffix("\n").removesuffix(" (cut at max_new_tokens=12)")


def ask(address: str, **how: Any) -> str:
    """The greedy answer over HTTP."""
    body = {"messages": [{"role": "user", "content": QUESTION}], "temperature": 0, "max_tokens": 12} | how
    request = urllib.request.Request(
        f"{address}/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(json.load(answer)["choices"][0]["message"]["content"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_is_served_until_a_signal_which_ends_it_with_0(lora: Path, tmp_path: Path, number: int) -> None:
    home = os.environ | {"HOME": str(tmp_path / "home"), "HF_HOME": str(tmp_path / "home" / "hf")}
    command = ForkedCommand(["serve", f"run={lora}", "port=0", "temperature=0"], env=dict(home))
    shown = command._streams[1]
    try:
        wait_until(lambda: "Ctrl-C" in shown.read_text() if shown.exists() else False, 100)
        address = shown.read_text().split(" at ")[1].split()[0]
        with urllib.request.urlopen(f"{address}/models", timeout=60) as answer:  # there is no cache of the hub
            assert [model["id"] for model in json.load(answer)["data"]] == ["my-run"]
        partner = load_partner(ChatConfig(run=str(lora)), Allowed())
        assert ask(address).translate({n: "\N{REPLACEMENT CHARACTER}" for n in range(32) if n != 10}) == chat(partner)
        command.send_signal(number)
        out, err = command.communicate(60)
    finally:
        command.kill()
    assert (command.returncode, err) == (0, "Loading ...\n")
    assert out.startswith("Serving my-run at http://127.0.0.1:")
    assert not (tmp_path / "home").exists()


@pytest.mark.matrix
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("method", METHODS)
def test_a_run_of_every_method_answers_as_in_chat(method: str, precision: str, tmp_path: Path) -> None:
    words = [*NEEDED.get(method, ()), f"precision={precision}", "optim.lr=1e-2"]
    run = tiny(tmp_path / "run", f"method={method}", *words)
    served = load_served(Serve(run=str(run), name="run"), Allowed())
    with run_server(served.partner) as live:
        found = ask(f"{live.address}/v1")
    assert found.translate({n: "\N{REPLACEMENT CHARACTER}" for n in range(32) if n != 10}) == chat(
        load_partner(ChatConfig(run=str(run)), Allowed())
    )


def test_a_taken_port_is_refused_before_the_model_is_loaded(lora: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "load_served", lambda *_: pytest.fail("the model was loaded"))
    with listen("127.0.0.1", 0) as taken, pytest.raises(ConfigError, match=r"cannot be used \(.*\); give another one"):
        serve_main([f"run={lora}", f"port={taken.getsockname()[1]}"])
    with pytest.raises(ConfigError, match=r"Port 8000 of nowhere\.invalid cannot be used"):
        open_socket(Serve(host="nowhere.invalid"))


def test_a_missing_library_is_named_with_the_extra(lora: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs fastapi, uvicorn, openai, which are not installed: pip install"):
        serve_main([f"run={lora}"])


def test_other_machines_need_a_key(lora: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY, raising=False)
    assert main(["serve", f"run={lora}", "host=0.0.0.0"]) == 2


def test_a_reward_model_is_refused(tmp_path: Path) -> None:
    run = tiny(tmp_path / "run", "stage=rm", "data=guide_preference", "method=lora", "trainer.max_steps=1")
    with pytest.raises(ModelError, match="is a reward model, which scores answers and cannot write any"):
        load_served(Serve(run=str(run), name="x"), Allowed())
    with pytest.raises(ModelError, match="is a reward model"):
        serve_main([f"run={run}", "engine=vllm"])


@pytest.mark.parametrize(("config", "key", "lines"), [
    (Serve(), False, ["Serving m at http://127.0.0.1:80/v1", OPEN]),
    (Serve(host="::1"), True, ["Serving m at http://[::1]:80/v1", CLOSED]),
    (Serve(host="0.0.0.0"), True, [
        f"Serving m at http://{socket.gethostname()}:80/v1", CLOSED,
        "warning: there is no TLS; put a proxy with TLS in front, because the key can be read.",
    ]),
])
def test_the_address_and_who_may_ask_are_printed(
    config: Serve, key: bool, lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    announce(Served("m", make_partner(), config), config, 80, key)
    assert capsys.readouterr().out.splitlines() == [*lines, "Ctrl-C ends it."]
