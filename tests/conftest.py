"""What every test needs: no network, one thread, a cache of its own, a small model."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.update(
    HF_HUB_OFFLINE="1", WANDB_MODE="offline", WANDB_SILENT="true", OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false",
)
os.environ.update(LC_ALL="C.UTF-8")
os.environ.pop("FULGURITE_LANG", None)
os.environ.setdefault("FULGURITE_CACHE", tempfile.mkdtemp(prefix="fulgurite-tests-"))

import pytest

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The slow tests first: with two workers the suite then ends with short ones on both. Tests of a target of their
    own only if `-m` names it."""
    for target in ("matrix", "browser"):
        if target not in config.option.markexpr:
            further = [item for item in items if item.get_closest_marker(target) is not None]
            config.hook.pytest_deselected(items=further)
            items[:] = [item for item in items if item.get_closest_marker(target) is None]
    skip_without_gpu(items)
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def skip_without_gpu(items: Iterable[pytest.Item]) -> None:
    """Skips the tests marked `gpu` if torch sees no GPU; torch is imported only if there are such tests."""
    marked = [item for item in items if item.get_closest_marker("gpu") is not None]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no GPU"))


_frozen = 0
"""The number of modules when the garbage collector last left everything out."""


def pytest_runtest_setup() -> None:
    """Leaves what was imported out of garbage collection: each run ends with one, which would walk over all libraries.

    Before a test, so that what the last one left is collected first; again if a test imported further libraries.
    """
    global _frozen
    if len(sys.modules) > _frozen + 100:
        gc.collect()
        gc.freeze()
        _frozen = len(sys.modules)


def cells(rows: Iterable[str], columns: Sequence[str], **values: Any) -> list[Any]:
    """The pairs of a table as parameters: a diagonal, in which each row and each column has a cell, and the rest marked
    `matrix`.

    `values` gives what stands for a column's name in the test.
    """
    return [
        pytest.param(
            row, values.get(column, column), id=f"{row}-{column}",
            marks=() if n % len(columns) == m else pytest.mark.matrix,
        )
        for n, row in enumerate(rows) for m, column in enumerate(columns)
    ]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def real_data() -> Callable[[str], Path]:
    """The path of a real data file by name; skips where the folder is absent (FULGURITE_TEST_DATA or
    ../shared/data)."""
    folder = Path(os.environ.get("FULGURITE_TEST_DATA", ROOT.parent / "shared" / "data"))

    def find(name: str) -> Path:
        if not (folder / name).is_file():
            pytest.skip(f"the real data set {name} is not here")
        return folder / name

    return find
