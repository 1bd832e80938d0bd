"""Whether a W&B server takes our key: asked before wandb starts, for a bounded time."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.logger.wandb_server import KEY, closed_port, serving

from fulgurite.logger.wandb_probe import find_key, probe_key


@pytest.mark.parametrize(("kind", "words"), [
    ("ok", ""), ("401", "refuses the API key"), ("500", "answers with HTTP status 500"),
    ("unknown", "does not know the API key"),
    ("stranger", "is not a W&B server"), ("redirect", "answers with HTTP status 302"),
])
def test_a_server_is_asked_before_the_start(kind: str, words: str) -> None:
    with serving(kind) as server:
        reason = str(probe_key(server.url, KEY, 5.0))
    assert reason == (f"{server.url} {words}" if words and kind != "stranger" else reason)
    assert words in reason
    assert bool(words) == bool(reason)


@pytest.mark.parametrize("kind", ["swallow", "drip"])
def test_a_silent_server_is_asked_no_longer_than_it_may_take(kind: str) -> None:
    with serving(kind) as server:
        begin = time.monotonic()
        assert str(probe_key(server.url, KEY, 0.3)) == f"{server.url} does not answer within 0.3 s"
        assert time.monotonic() - begin < 3


def test_a_closed_port_and_a_strange_address_are_reasons() -> None:
    assert "cannot be reached" in str(probe_key(closed_port(), KEY, 2.0))
    assert probe_key("not an address", KEY, 2.0)
    assert probe_key("file:///etc/hostname", KEY, 2.0)


def test_the_key_goes_to_no_other_server() -> None:
    with serving("ok") as other, serving("redirect") as server:
        server.target = f"{other.url}/graphql"
        assert probe_key(server.url, KEY, 5.0)
        assert server.asked == 1
        assert other.asked == 0


def test_the_key_is_found_in_the_environment_or_netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "netrc"
    file.write_text(f"machine api.wandb.ai\n  login user\n  password {KEY}\n")
    monkeypatch.setenv("NETRC", str(file))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert find_key("https://api.wandb.ai") == KEY
    assert find_key("https://elsewhere.example") == ""
    monkeypatch.setenv("WANDB_API_KEY", " other ")
    assert find_key("https://api.wandb.ai") == "other"
    monkeypatch.delenv("WANDB_API_KEY")
    file.write_text("machine only")
    assert find_key("https://api.wandb.ai") == ""
    monkeypatch.setenv("NETRC", str(tmp_path / "missing"))
    assert find_key("https://api.wandb.ai") == ""
