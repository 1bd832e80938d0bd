"""The secret of the noise: kept in a private file, read back, refused if it is gone or damaged."""

from __future__ import annotations
import math
import os
from pathlib import Path
import numpy as np
import pytest
from opacus.accountants import PRVAccountant, RDPAccountant
from torch import nn
from fulgurite.config.compose import compose
from fulgurite.config.resolve import fill
from fulgurite.config.run import Facts
from fulgurite.data.sampler import PoissonSampler
from fulgurite.errors import CheckpointError, ConfigError
from fulgurite.privacy.accountant import compute_delta, compute_epsilon, compute_rate, draw_rows, solve_noise
from fulgurite.privacy.config import DpSgd
from fulgurite.privacy.duplicates import count_duplicates, describe_unit
from fulgurite.privacy.mechanism import Mechanism, build
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
    with pytest.raises(CheckpointError, match="noise_seed is gone, without which the run cannot go on"):
        secret_of(DpSgd(), tmp_path, resumed=True)
