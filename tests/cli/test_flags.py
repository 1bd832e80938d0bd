"""The flags of `fulgurite train`, which are read apart from the overrides."""

from __future__ import annotations

from pathlib import Path

import pytest

from fulgurite.cli import flags
from fulgurite.errors import ConfigError, RequestError


def test_flags_keep_their_values_between_overrides() -> None:
    read = flags.read(["--cfg", "job", "optim.lr=1", "--resolve"])
    assert (read.list_words(), read.overrides) == (["--cfg", "job", "--resolve"], ["optim.lr=1"])
    assert flags.read(["-m", "seed=1,2"]).list_words() == ["--multirun"]
    assert not flags.read(["seed=1"]).needs_hydra


def test_folder_of_options_needs_no_hydra_and_must_exist(tmp_path: Path) -> None:
    found = flags.read(["--config-dir", str(tmp_path), "seed=1"])
    assert (found.config_dir, found.needs_hydra, found.overrides) == (tmp_path, False, ["seed=1"])
    with pytest.raises(RequestError, match=r"--config-dir .*/missing is not a folder"):
        flags.read(["--config-dir", f"{tmp_path}/missing"])


def test_home_is_expanded_in_the_folder_of_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert flags.read(["-cd", "~"]).config_dir == tmp_path


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["-m", "--cfg", "job"], "--multirun, --cfg cannot be combined"),
        (["--resolve"], "--resolve needs --cfg job"),
        (["-sc"], "--shell-completion needs install=bash"),
    ],
)
def test_flags_that_do_not_fit_are_refused(words: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        flags.read(words)
    assert sentence in str(refused.value)


def test_completion_is_asked_for_with_its_word() -> None:
    assert flags.read(["-sc", "install=bash"]).list_words() == ["--shell-completion"]
