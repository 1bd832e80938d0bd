"""Small files that are replaced whole."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from fulgurite.files import replace


def test_a_new_file_is_its_owners_alone_and_one_that_is_shared_stays_so(tmp_path: Path) -> None:
    path, before = tmp_path / "status.json", os.umask(0)
    try:
        replace(path, "one")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.chmod(0o640)
        replace(path, "two")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert path.read_text() == "two"
