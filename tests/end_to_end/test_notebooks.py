"""The notebooks run from top to bottom, and are kept without outputs. They are found by a glob and counted."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
QUICK = ("first_run", "lightning", "losses_by_hand")
"""Those that `make test` runs; `make matrix` runs the others."""


def test_they_are_all_here() -> None:
    assert [path.stem for path in NOTEBOOKS] == sorted(
        [*QUICK, "preferences", "sweeps_and_tracking", "your_own_data"]
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stripped(path: Path) -> None:
    code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert code
    assert [cell for cell in code if cell.outputs or cell.execution_count] == []


@pytest.mark.slow
@pytest.mark.parametrize("path", [
    pytest.param(path, id=path.stem, marks=() if path.stem in QUICK else pytest.mark.matrix) for path in NOTEBOOKS
])
def test_it_runs(path: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    # a cell that raises, a failed assert among them, ends in CellExecutionError with the cell's text
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
