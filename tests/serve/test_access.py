"""The key of a server, and the names to which it answers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fulgurite.config.serve_arguments import Serve
from fulgurite.errors import ConfigError
from fulgurite.serve.access import KEY, Access, build_access, read_key

SECRET = "0123456789abcdef"


def test_a_bearer_token_must_be_the_key() -> None:
    access = Access(frozenset(), key=SECRET)
    assert access.has_key(f"Bearer {SECRET}")
    assert access.has_key(f"bearer {SECRET}")
    near = (f"Bearer {SECRET}x", f"Bearer {SECRET[:-1]}", f"Basic {SECRET}")
    for wrong in ("", "Bearer", *near, SECRET, "Bearer \udc80"):
        assert not access.has_key(wrong)
    assert Access(frozenset()).has_key("")


def test_names_are_those_of_the_host_and_further_ones() -> None:
    access = build_access(Serve(hosts="LLM.example.org, b", origins="https://a.example, https://b.example"), 81, "")
    assert access.hosts == {
        "127.0.0.1:81", "localhost:81", "[::1]:81", "llm.example.org", "llm.example.org:81", "b", "b:81",
    }
    assert access.origins == ("https://a.example", "https://b.example")


def test_the_key_comes_from_the_environment_or_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(KEY, SECRET)
    assert read_key(Serve(host="0.0.0.0")) == SECRET
    assert KEY not in os.environ
    file = tmp_path / "key"
    file.write_text(f"{SECRET}{SECRET}\n")
    file.chmod(0o600)
    assert read_key(Serve(key_file=str(file))) == SECRET * 2
    assert not capsys.readouterr().err
    file.chmod(0o644)
    assert read_key(Serve(key_file=str(file))) == SECRET * 2
    assert f"warning: other users may read the key in {file}" in capsys.readouterr().err.replace("\n", " ")


def test_wrong_keys_and_none_for_other_machines_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY, raising=False)
    assert read_key(Serve()) == ""
    for host in ("0.0.0.0", "::", "10.0.0.1", "example.org"):
        with pytest.raises(ConfigError, match="lets other machines ask this server: give a key"):
            read_key(Serve(host=host))
    file = tmp_path / "key"
    for text, sentence in (
        (b"short", "at least 16 characters"), (b"with blanks in the key", "without blanks"),
        (b"", "is empty; write the key into it"), (b"\xff\xfe", "is not a text file"),
        ("schlüssel-schlüssel".encode(), "letters, digits and signs"),
    ):
        file.write_bytes(text)
        with pytest.raises(ConfigError, match=sentence):
            read_key(Serve(key_file=str(file)))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_key(Serve(key_file=str(tmp_path)))
