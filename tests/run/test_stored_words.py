"""The words of an earlier run: its paths are absolute, and words given now win."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fulgurite.config.compose import compose
from fulgurite.errors import CheckpointError, ConfigError
from fulgurite.run.folder import read_config, write_run
from fulgurite.run.stored_words import restore_words


def test_restored_words_have_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    for folder in ("base", "data", "else"):
        (here / folder).mkdir(parents=True)
    for file in ("mine.jsonl", "data/a.jsonl"):
        (here / file).write_text("{}")
    (here / "link.jsonl").symlink_to("data/a.jsonl")
    monkeypatch.chdir(here)
    files = ["data.path=[mine.jsonl,data/*.jsonl]", "data.val_path=link.jsonl"]
    words = ["model=hf", "model.path=base", "data=file", *files]
    composed = compose(words)
    assert composed.run.model.path == str(here / "base")
    assert composed.overrides == words
    run = tmp_path / "run"
    run.mkdir()
    write_run(run, composed)
    monkeypatch.chdir(here / "else")
    kept = read_config(run)
    assert kept["data"]["path"] == [str(here / "mine.jsonl"), str(here / "data" / "*.jsonl")]
    assert kept["data"]["val_path"] == [str(here / "link.jsonl")]
    again = compose(restore_words([f"resume.run={run}"])).run
    assert (again.model.path, again.data.path, again.data.val_path) == (
        composed.run.model.path, composed.run.data.path, composed.run.data.val_path,
    )
    other = compose(restore_words([f"resume.run={run}", f"data.path={here / 'data' / 'a.jsonl'}"])).run
    assert other.data.path == [str(here / "data" / "a.jsonl")]


def write_words(folder: Path, overrides: list[str], **knobs: object) -> str:
    """A run's provenance.json with these words, and the word that resumes it."""
    known = {name.replace("__", "."): {"value": value} for name, value in knobs.items()}
    origin = {"overrides": overrides, "choices": {}, "knobs": known}
    (folder / "provenance.json").write_text(json.dumps(origin))
    return f"resume.run={folder}"


def test_words_given_now_come_last_and_win(tmp_path: Path) -> None:
    word = write_words(tmp_path, ["optim.lr=1", "seed=2", "run_dir=elsewhere"])
    assert restore_words([word, "seed=3"]) == ["optim.lr=1", word, "seed=3"]
    assert restore_words(["seed=3"]) == ["seed=3"]


def test_a_path_is_restored_from_its_stored_value_unless_it_is_given(tmp_path: Path) -> None:
    words = ["model=hf", "model.path=base"]
    word = write_words(tmp_path, words, model__path="/there/base", data__path=["/a b/c.jsonl"])
    restored = ["data.path=['/a b/c.jsonl']", "model.path='/there/base'", "model=hf"]
    assert sorted(restore_words([word])[:-1]) == restored
    given = [word, "data.path=x"]
    assert restore_words(given) == ["model=hf", "model.path='/there/base'", *given]


def test_a_stored_word_that_runs_code_has_to_be_given_again(tmp_path: Path) -> None:
    word = write_words(tmp_path, ["plugins=[mine]"])
    with pytest.raises(ConfigError, match=r"was run with plugins=\[mine\], which lets code run"):
        restore_words([word])
    assert restore_words([word, "plugins=[mine]"]) == [word, "plugins=[mine]"]


@pytest.mark.parametrize("content", [None, "{", "[]", '{"overrides": []}'])
def test_a_folder_that_is_no_run_is_one_sentence(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "provenance.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"is not a run folder: .*provenance\.json cannot be read"):
        restore_words([f"resume.run={tmp_path}"])
