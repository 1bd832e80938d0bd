"""The parameters of chat: their limits, and those that may be empty."""

from __future__ import annotations

import pytest

from fulgurite.config.arguments import parse
from fulgurite.config.chat_arguments import ChatConfig
from fulgurite.errors import ConfigError


@pytest.mark.parametrize(("inside", "outside"), [
    ("temperature=0", "temperature=-0.1"), ("temperature=10", "temperature=10.1"), ("top_p=1", "top_p=1.01"),
    ("max_new_tokens=1", "max_new_tokens=0"), ("seed=0", "seed=-1"),
])
def test_the_limits_of_each_number(inside: str, outside: str) -> None:
    name, _, text = inside.partition("=")
    assert getattr(parse(ChatConfig, [inside], "chat"), name) == float(text)
    with pytest.raises(ConfigError, match=f"{name}=.* is not allowed: it must be "):
        parse(ChatConfig, [outside], "chat")


@pytest.mark.parametrize("name", ["run", "model", "seed", "system", "temperature", "top_p", "max_new_tokens",
    "checkpoint"])
def test_what_may_be_empty(name: str) -> None:
    if name in ("run", "model", "seed", "system"):
        assert getattr(parse(ChatConfig, [f"{name}=null"], "chat"), name) is None
        return
    with pytest.raises(ConfigError, match="must have a value"):
        parse(ChatConfig, [f"{name}=null"], "chat")
