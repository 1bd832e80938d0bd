"""A new folder is whole or absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from fulgurite.errors import ModelError, RequestError
from fulgurite.export.folder import write_new_folder


@pytest.mark.parametrize(("error", "kind", "sentence"), [
    (OSError(28, "No space left on device"), RequestError, "cannot be written"),
    (ValueError("odd"), ModelError, "run cannot be exported: odd"), (KeyboardInterrupt(), KeyboardInterrupt, None),
])
def test_nothing_is_left_after_an_error(
    error: BaseException, kind: type[BaseException], sentence: str | None, tmp_path: Path
) -> None:
    def write_half() -> None:
        with write_new_folder(tmp_path / "deep" / "out", "run") as draft:
            (draft / "half").write_text("half")
            raise error

    with pytest.raises(kind, match=sentence):
        write_half()
    assert [path.name for path in (tmp_path / "deep").iterdir() if not path.name.startswith(".out.lock")] == []


def test_a_whole_folder_takes_its_place(tmp_path: Path) -> None:
    with write_new_folder(tmp_path / "out", "run") as draft:
        (draft / "file").write_text("whole")
        assert not (tmp_path / "out").exists()
    assert (tmp_path / "out" / "file").read_text() == "whole"
