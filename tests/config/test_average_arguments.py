"""The words of `fulgurite average`."""

from __future__ import annotations

from pathlib import Path

import pytest

from fulgurite.config.average_arguments import AverageWeights, read
from fulgurite.errors import RequestError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "a,b"  # a comma is part of the name
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text("{}")
    return folder


def test_each_run_is_a_word(run: Path, tmp_path: Path) -> None:
    words = [f"run={run}", f"out={tmp_path / 'new'}"]
    _, config, out = read([*words, "checkpoints=step-1,step-2", "weights=ema"])
    assert (config.run, config.checkpoints) == ([str(run)], ["step-1", "step-2"])
    assert (config.weights, out) == (AverageWeights.ema, tmp_path / "new")
    assert read([f"run={run}", *words])[1].run == [str(run)] * 2


@pytest.mark.parametrize(("words", "sentence"), [
    ([], "two members or more"), (["run={run}", "weights=ema"], "have an order"),
    (["run={run}", "decay=0.5"], "add weights=ema"), (["run=/nothing"], "/nothing"), (["out="], "needs runs and a new"),
    (["run={run}", "out={run}"], "nothing is overwritten"), (["run={run}", "weights=median"], "must be"),
])
def test_wrong_words_are_refused(words: list[str], sentence: str, run: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=sentence):
        read([f"run={run}", f"out={tmp_path / 'new'}", *(word.format(run=run) for word in words)])
