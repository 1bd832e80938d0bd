"""Rows that are copies of others, and the sentence on what one row is."""

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


def test_copies_are_counted_and_described() -> None:
    class Row:
        def __init__(self, *ids: int) -> None:
            self.input_ids = np.array(ids)

    assert count_duplicates([Row(1, 2), Row(3), Row(1, 2), Row(1, 2), Row(3), Row(4)]) == (3, 3)
    assert describe_unit(3, 3, 2) == (
        "3 rows are copies of others, up to 3 alike and 2 rows are further parts of one record: "
        "whoever stands behind k rows is protected k times less"
    )
    assert describe_unit(0, 1, 0) == ""
