"""Files outside the board's folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from fulgurite.board.worker.outside import build_check, refuse_outside
from fulgurite.errors import DataError


def test_links_are_followed_before_a_path_is_compared(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "root-2").mkdir()
    (root / "out").symlink_to(tmp_path)
    (root / "loop").symlink_to(root / "loop")
    check = build_check([root])
    assert check(root / "a" / "b")
    assert check(root)
    for path in (tmp_path / "root-2", root / "out" / "x", root / "loop" / "x", root / ".." / "x", Path("x" * 5000)):
        assert not check(path)
    with pytest.raises(DataError, match="leads out"):
        refuse_outside([root / "a", root / "out" / "x"], check, shipped=False)
    refuse_outside([root / "out"], check, shipped=True)
