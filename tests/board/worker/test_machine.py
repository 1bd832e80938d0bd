"""The machine, as the page shows it."""

from __future__ import annotations

from pathlib import Path

from fulgurite.board.worker.machine import describe_machine


def test_machine_has_memory_disk_and_cores(tmp_path: Path) -> None:
    found = describe_machine(tmp_path)
    assert found["device"] in ("cpu", "cuda")
    assert 0 < found["memory_free"] <= found["memory_total"]
    assert found["disk_free"] > 0
    assert found["cores"] >= 1
    assert isinstance(found["gpus"], list)
    assert found["version"]
