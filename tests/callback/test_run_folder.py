"""A run folder that is removed, moved, emptied or replaced during training ends the run; nothing is made again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fulgurite.callback.run_folder import RunFolderGuard
from fulgurite.errors import TrainingFailed

TRAINER: Any = SimpleNamespace(is_global_zero=True, global_step=3)


def replaced(folder: Path) -> None:
    shutil.rmtree(folder)
    made(folder)


def made(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.yaml").write_text("")
    return folder


@pytest.mark.parametrize(
    "happens",
    [
        shutil.rmtree, replaced, lambda folder: folder.rename(folder.with_name("elsewhere")),
        lambda folder: (folder / "config.yaml").unlink(),
    ],
)
def test_a_folder_that_is_gone_is_noticed(happens: Callable[[Path], Any], tmp_path: Path) -> None:
    home = RunFolderGuard(made(tmp_path / "run"))
    home.setup(TRAINER, TRAINER, "fit")
    looks = [
        lambda: home.on_train_batch_start(TRAINER, TRAINER, None, 0),
        lambda: home.on_train_batch_end(TRAINER, TRAINER, None, None, 0),
        lambda: home.on_validation_end(TRAINER, TRAINER), lambda: home.on_train_end(TRAINER, TRAINER),
    ]
    for look in looks:
        look()
    happens(tmp_path / "run")
    for look in looks:
        with pytest.raises(
            TrainingFailed, match=r"run was removed, moved or emptied while the run trained \(after step 3\)"
        ):
            look()
    home.teardown(TRAINER, TRAINER, "fit")


def test_another_rank_does_not_look(tmp_path: Path) -> None:
    other: Any = SimpleNamespace(is_global_zero=False, global_step=3)
    home = RunFolderGuard(tmp_path / "never made")
    home.setup(other, other, "fit")
    home.on_train_end(other, other)
