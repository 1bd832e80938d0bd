"""The rate of this machine: measured once a process, and never below what was measured before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from fulgurite.board.worker import rate
from fulgurite.board.worker.rate import RateBook, measure_rate
from fulgurite.strategy.config import available


def test_rate_is_that_of_real_products() -> None:
    assert 1e8 < measure_rate(torch.float32, 64) < 1e14


def test_fastest_measurement_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[tuple[torch.dtype, int]] = []

    def measure(dtype: torch.dtype, width: int) -> float:
        measured.append((dtype, width))
        return 5.0

    monkeypatch.setattr(rate, "measure_rate", measure)
    path = tmp_path / "rates.json"
    path.write_text(json.dumps({"bfloat16 512": 7.0}))
    book = RateBook(path)
    assert book.find(torch.bfloat16, 576) == book.find(torch.bfloat16, 900) == 7.0 * available()
    assert book.find(torch.float32, 10**6) == 5.0 * available()
    assert measured == [(torch.bfloat16, 512), (torch.float32, rate.WIDEST)]
    assert json.loads(path.read_text()) == {"bfloat16 512": 7.0, "float32 2048": 5.0}
    path.write_text("{broken")
    assert RateBook(path).find(torch.float32, 64) == 5.0 * available()
