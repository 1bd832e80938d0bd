"""Files outside the board's folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from fulgurite.board.roots import Roots
from fulgurite.board.worker.outside import refuse_outside
from fulgurite.errors import DataError


def test_data_file_outside_is_refused_unless_it_is_shipped(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "root-2").mkdir()
    (root / "out").symlink_to(tmp_path)
    (root / "loop").symlink_to(root / "loop")
    check = Roots([root], root).allows
    assert check(root / "a" / "b")
    assert check(Path("a"))
    for path in (tmp_path / "root-2", root / "out" / "x", root / "loop" / "x", root / ".." / "x", root / ".secret"):
        assert not check(path)
    with pytest.raises(DataError, match="leads out"):
        refuse_outside([root / "a", root / "out" / "x"], check, shipped=False)
    refuse_outside([root / "out"], check, shipped=True)
