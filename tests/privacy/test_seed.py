"""The secret of the noise: kept in a private file, read back, refused if it is gone or damaged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fulgurite.errors import CheckpointError, RequestError
from fulgurite.privacy.config import DpSgd
from fulgurite.privacy.seed import FILE, secret_of


def test_the_secret_is_new_private_and_kept(tmp_path: Path) -> None:
    made = secret_of(DpSgd(), tmp_path, resumed=False)
    assert made.bit_length() > 64
    assert secret_of(DpSgd(), tmp_path, resumed=True) == made
    assert os.stat(tmp_path / FILE).st_mode & 0o077 == 0
    (tmp_path / "other").mkdir()
    assert secret_of(DpSgd(), tmp_path / "other", resumed=False) != made
    assert secret_of(DpSgd(noise_seed=7), tmp_path, resumed=True) == 7
    (tmp_path / FILE).unlink()
    with pytest.raises(CheckpointError, match="noise_seed is missing, and a private run cannot be resumed"):
        secret_of(DpSgd(), tmp_path, resumed=True)


@pytest.mark.parametrize("content", ["", "not hexadecimal\n"])
def test_a_damaged_secret_is_refused_not_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    with pytest.raises(RequestError, match="noise_seed cannot be used as the secret seed of the noise"):
        secret_of(DpSgd(), tmp_path, resumed=False)
    assert (tmp_path / FILE).read_text() == content


def test_the_file_holds_the_secret_in_hexadecimal(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("ff\n")
    assert secret_of(DpSgd(), tmp_path, resumed=True) == 255
    with pytest.raises(RequestError, match="start a new run with another run_dir"):
        secret_of(DpSgd(), tmp_path / "no_folder", resumed=False)
