"""The measured peak of a device that the table lacks."""

from __future__ import annotations

from benchmarks.flops import measure_rate, settle_peak


def test_an_unknown_device_is_measured() -> None:
    found = settle_peak("cpu", 64)
    assert found["peak"] == found["measured"] > 0
    assert found["source"].startswith("measured")
    assert measure_rate("cpu", 64, repeats=1) > 0
