"""A run from its first line to its last: the same files from the library and from the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.end_to_end.runs import rows, tiny_experiment
from tests.train.stock_trainer import words_of

from fulgurite.errors import ConfigError


def test_fit_leaves_what_the_command_leaves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from fulgurite.cli.main import main

    words = words_of("sft", tmp_path, "trainer.micro_batch_size=2")
    experiment = tiny_experiment(tmp_path / "library", *words)
    experiment.fit()
    same = [word for word in experiment.composed.overrides if not word.startswith("run_dir=")]
    assert main(["train", *same, f"run_dir={tmp_path / 'command'}"]) == 0
    capsys.readouterr()

    def files(name: str) -> set[str]:
        return {str(path.relative_to(tmp_path / name)) for path in (tmp_path / name).rglob("*")}

    assert files("library") == files("command")
    assert rows(tmp_path / "library") == rows(tmp_path / "command")
    assert experiment.config.trainer.micro_batch_size == 2
    assert json.loads((tmp_path / "library" / "status.json").read_text())["state"] == "finished"
    with pytest.raises(ConfigError, match="has been trained"):
        experiment.fit()
