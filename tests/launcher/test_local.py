"""Our own processes on this machine: the first machine names the folder. More is in tests/cli/test_train.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fulgurite.config.compose import compose
from fulgurite.launcher.local import launch
from fulgurite.launcher.request import LaunchRequest
from fulgurite.strategy.ranks import Ranks


@pytest.mark.parametrize(("node", "has_folder"), [(0, True), (1, False)])
def test_the_first_machine_names_the_folder(
    node: int, has_folder: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, ...]] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fulgurite.train.launcher.launch", lambda *given: calls.append(given) or 0)
    for name, value in {"NODE_RANK": str(node), "MASTER_ADDR": "first", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    checked: list[bool] = []
    request = LaunchRequest(
        ("train", "model=tiny"), 2, 2, "one", None, None, Ranks(node_rank=node), check=lambda: checked.append(True),
    )
    assert launch(compose([]).run.launcher, request) == 0
    [(words, devices, folder, rank, nodes)] = calls
    assert (devices, rank, nodes, checked) == (2, node, 2, [True])
    assert (folder is not None) == has_folder
    assert any(word.startswith("run_dir=") for word in words) == has_folder
