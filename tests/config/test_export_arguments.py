"""The parameters of export: which types it writes, and its defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from fulgurite.config.arguments import parse
from fulgurite.config.export_arguments import Export, ExportDtype, read
from fulgurite.errors import ConfigError, RequestError


def test_an_export_merges_the_best_checkpoint_in_the_base_s_own_dtype() -> None:
    found = parse(Export, ["run=a", "out=b"], "export")
    assert found == Export(run="a", out="b", checkpoint="best", merge=True, dtype=None)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_each_dtype_that_can_be_written(dtype: str) -> None:
    assert parse(Export, [f"dtype={dtype}"], "export").dtype is ExportDtype(dtype)


def test_another_dtype_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match="dtype must be one of float32, bfloat16, float16"):
        parse(Export, ["dtype=int8"], "export")


def test_a_run_folder_and_a_new_folder_are_needed(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for words, sentence in (
        (["out=x"], "needs a run and a new folder"), ([f"run={tmp_path}/no", "out=x"], "does not exist"),
        ([f"run={tmp_path}/run", "out=x"], "is not a run folder: it has no config.yaml"),
    ):
        with pytest.raises(RequestError, match=sentence):
            read(words)
    (tmp_path / "run" / "config.yaml").touch()
    with pytest.raises(RequestError, match="exists already and is not empty"):
        read([f"run={tmp_path}/run", f"out={tmp_path}"])
    allowed, config, out = read([f"run={tmp_path}/run", f"out={tmp_path}/new", "plugins=[mine]"])
    assert (allowed.plugins, config.run, out) == (("mine",), f"{tmp_path}/run", tmp_path / "new")


@pytest.mark.parametrize(("words", "sentence"), [
    (["push=model"], "write owner/name"), (["push=../x/y"], "write owner/name"), (["dry_run=true"], "is for push="),
])
def test_a_wrong_upload_is_refused(words: list[str], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=sentence):
        read([f"run={tmp_path}", f"out={tmp_path / 'out'}", *words])
