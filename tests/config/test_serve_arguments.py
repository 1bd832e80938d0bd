"""The parameters of serve: defaults, and what belongs to one engine only."""

from __future__ import annotations

from pathlib import Path

import pytest

from fulgurite.config.serve_arguments import ServeEngine, read, split_list
from fulgurite.errors import ConfigError


def test_a_server_listens_on_this_machine_alone_under_the_name_of_the_run(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    allowed, config = read([f"run={tmp_path}", "plugins=[mine]"])
    assert (config.host, config.port, config.name, config.engine) == (
        "127.0.0.1", 8000, tmp_path.name, ServeEngine.transformers
    )
    assert allowed.plugins == ("mine",)
    assert read([f"run={tmp_path}", "name=m", "engine=vllm", "out=x", "merge=false"])[1].out == "x"


@pytest.mark.parametrize(("words", "sentence"), [
    (["out=x"], "out is read with engine=vllm only"), (["merge=false"], "merge is read with engine=vllm only"),
    (["engine=vllm", "hosts=a"], "hosts is read with engine=transformers only"),
    (["engine=vllm", "max_new_tokens=3"], "max_new_tokens is read with engine=transformers only"),
    (["engine=tgi"], "engine must be one of transformers, vllm"), (["port=70000"], "it must be"),
    (["key=secret"], "has no parameter key"), (["name=a\nb"], "cannot be printed"), (["temperature=-1"], "it must be"),
])
def test_wrong_words_are_refused_before_anything_is_loaded(tmp_path: Path, words: list[str], sentence: str) -> None:
    (tmp_path / "config.yaml").touch()
    with pytest.raises(ConfigError, match=sentence):
        read([f"run={tmp_path}", *words])


def test_a_run_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs run="):
        read([])
    with pytest.raises(ConfigError, match="is not a run folder"):
        read([f"run={tmp_path}"])


def test_items_have_commas_between_them() -> None:
    assert split_list(" a, b ,,c") == ["a", "b", "c"]
    assert split_list(None) == []
