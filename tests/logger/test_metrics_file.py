"""metrics.jsonl: valid JSON, whole lines, once each, whatever the disk does."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from fulgurite.logger.metrics_file import MetricsFile, read_rows


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line, parse_constant=pytest.fail) for line in path.read_text().splitlines()]


def test_each_row_is_there_as_soon_as_it_is_written(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl")
    for step in (1, 2):
        file.write({"step": step, "train/loss": 0.5 / step})
        assert lines(file.path)[-1] == {"step": step, "train/loss": 0.5 / step}
    assert oct(file.path.stat().st_mode)[-3:] == "600"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_json_has_no_word_for_non_finite(tmp_path: Path, bad: float) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.write({"step": 1, "train/loss": bad, "train/lr": 0.1})
    assert lines(file.path) == [{"step": 1, "train/loss": None, "train/lr": 0.1}]


def test_a_full_disk_is_logged_once_and_the_rows_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.write({"step": 1})
    real, space = os.write, {"bytes": 6}

    def full(handle: int, data: bytes) -> int:
        taken, space["bytes"] = min(len(data), space["bytes"]), max(0, space["bytes"] - len(data))
        if taken == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, data[:taken])

    monkeypatch.setattr(os, "write", full)
    for step in (2, 3, 4):
        file.write({"step": step})
        assert lines(file.path) == [{"step": 1}]
    assert len(caplog.records) == 1
    assert "No space left on device" in caplog.text
    monkeypatch.setattr(os, "write", real)
    file.write({"step": 5})
    file.close()
    assert [row["step"] for row in lines(file.path)] == [1, 2, 3, 4, 5]


def test_rows_that_never_found_space_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = MetricsFile(tmp_path / "missing" / "metrics.jsonl")
    file.write({"step": 1})
    file.write({"step": 2})
    file.close()
    assert "2 rows are missing in" in caplog.records[-1].getMessage()


def test_rewind_drops_later_rows_and_half_a_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    whole = b'{"step": 1}\n{"step": 2, "train/loss": 1.0}\n{"step": 2, "val/loss": 3.0}\n{"step": 3}\n'
    path.write_bytes(whole + b'{"step": 4, "tr')
    file = MetricsFile(path)
    file.rewind(2)
    assert [row["step"] for row in lines(path)] == [1, 2, 2]
    # The evaluation of step 2 is owed again after a resume; its row is there already.
    file.write({"step": 2, "val/loss": 3.0})
    file.write({"step": 3, "train/loss": 0.5})
    assert [row["step"] for row in lines(path)] == [1, 2, 2, 3]


def test_rewind_keeps_a_whole_file_to_the_byte(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl")
    for step in range(1, 6):
        file.write({"step": step, "train/loss": 1 / 3 * step, "train/lr": 1e-7, "train/grad_norm": float("nan")})
    before = file.path.read_bytes()
    MetricsFile(file.path).rewind(5)
    assert file.path.read_bytes() == before


def test_rewind_of_nothing_makes_nothing(tmp_path: Path) -> None:
    MetricsFile(tmp_path / "metrics.jsonl").rewind(0)
    assert list(tmp_path.iterdir()) == []


def test_foreign_lines_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n[1]\nnot json\n{"no": "step"}\n\xff\xfe\n{"step": 2}\n')
    assert read_rows(path) == ([{"step": 1}, {"step": 2}], 4)
