"""The curves of a run: read once, thinned without losing a spike, and followed without a gap."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from fulgurite.board.metrics import BLOCK, MOST_AT_ONCE, MetricCurve, MetricsReader, parse_rows, thin, to_json_row
from fulgurite.logger.metrics_file import MetricsFile
from fulgurite.logger.smoothing import RunningMean


def write(path: Path, *rows: dict[str, object]) -> None:
    with path.open("a") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)


def read(path: Path) -> MetricsReader:
    reader = MetricsReader(path)
    reader.refresh()
    return reader


def test_rows_of_training_and_evaluation_become_curves(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, {"step": 1, "epoch": 0, "tokens": 9, "train/loss": 3.0, "train/lr": 0.1})
    write(path, {"step": 1, "epoch": 0, "tokens": 9, "val/loss": 2.5}, {"step": 2, "train/loss": 2.0, "train/lr": 0.2})
    found = read(path).describe(100)
    assert found["rows"] == 3
    assert found["series"]["train/loss"] == [[1, 3.0], [2, 2.0]]
    assert found["series"]["val/loss"] == [[1, 2.5]]
    assert set(found["series"]) == {"train/loss", "train/lr", "val/loss", "smoothed"}
    assert found["last"] == {"step": 2, "train/loss": 2.0, "train/lr": 0.2}


def test_smoothed_loss_is_that_of_the_terminal_whenever_rows_arrive(tmp_path: Path) -> None:
    path, losses = tmp_path / "metrics.jsonl", [3.0, 2.0, 2.5, 1.0, 1.5]
    reader = MetricsReader(path)
    for step, loss in enumerate(losses, 1):
        write(path, {"step": step, "train/loss": loss})
        reader.refresh()
    mean = RunningMean()
    assert reader.describe(100)["series"]["smoothed"] == [[n, mean.add(x)] for n, x in enumerate(losses, 1)]


def test_share_of_clipped_steps_is_over_the_last_hundred(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    reader = MetricsReader(path)
    flags = [float(n % 3 == 0) for n in range(250)]
    for begin, end in ((0, 7), (7, 140), (140, 250)):
        write(path, *({"step": n + 1, "train/clipped": flags[n]} for n in range(begin, end)))
        reader.refresh()
    expected = [sum(flags[max(0, n - 99): n + 1]) / min(n + 1, 100) for n in range(250)]
    assert [y for _, y in reader.describe(300)["series"]["clipped_share"]] == pytest.approx(expected)


def test_new_rows_have_what_is_computed_of_them(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    reader = MetricsReader(path)
    write(path, {"step": 1, "train/loss": 3.0, "train/clipped": 1.0})
    reader.refresh()
    mark = reader.mark
    write(path, {"step": 2, "train/loss": 2.0, "train/clipped": 0.0}, {"step": 2, "val/loss": 2.5})
    reader.refresh()
    found = reader.read_after(mark)
    assert found is not None
    series = reader.describe(100)["series"]
    assert found["rows"][0]["smoothed"] == series["smoothed"][-1][1]
    assert found["rows"][0]["clipped_share"] == 0.5
    assert "smoothed" not in found["rows"][1]


def test_nan_is_null_and_leaves_a_gap(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, {"step": 1, "train/loss": 2.0}, {"step": 2, "train/loss": None}, {"step": 3, "train/loss": math.nan})
    found = read(path).describe(100)
    assert found["series"]["train/loss"] == [[1, 2.0], [2, None], [3, None]]
    assert found["series"]["smoothed"] == [[1, 2.0]]
    json.dumps(found, allow_nan=False)


def test_half_a_line_waits_for_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, {"step": 1, "train/loss": 2.0})
    with path.open("a") as stream:
        stream.write('{"step": 2, "train/')
    reader = read(path)
    assert (reader.rows, reader.bad) == (1, 0)
    with path.open("a") as stream:
        stream.write('loss": 1.0}\n')
    assert reader.refresh() is False
    assert reader.describe(100)["series"]["train/loss"] == [[1, 2.0], [2, 1.0]]


@pytest.mark.parametrize("line", [
    "[]", "7", "{}", '{"step": "1"}', '{"step": true}', '{"step": -1}', "not json", "[" * 9000,
    '{"step": 99999999999999999999}',
])
def test_foreign_lines_are_counted_and_passed_over(tmp_path: Path, line: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1, "train/loss": 2.0}}\n{line}\n{{"step": 2, "train/loss": 1e999, "x": "<b>"}}\n')
    reader = read(path)
    assert (reader.rows, reader.bad) == (2, 1)
    assert reader.describe(100)["series"] == {"train/loss": [[1, 2.0], [2, None]], "smoothed": [[1, 2.0]]}
    assert reader.last == {"step": 2, "train/loss": math.inf, "x": "<b>"}
    assert to_json_row(reader.last) == {"step": 2, "train/loss": None}


def test_new_rows_follow_a_mark_without_gap_or_repetition(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    reader, marks, seen = MetricsReader(path), "0", []
    for step in range(1, 8):
        write(path, {"step": step, "train/loss": 1.0 * step})
        reader.refresh()
        if step % 3 == 0:
            found = reader.read_after(marks)
            assert found is not None
            seen += found["rows"]
            marks = found["after"]
    # a page that is loaded again has the mark of the curves, and so does another server
    again = read(path).read_after(marks)
    assert again is not None
    rows = [*seen, *again["rows"]]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    mean = RunningMean()
    assert [row["smoothed"] for row in rows] == [mean.add(1.0 * step) for step in range(1, 8)]


def test_a_rewound_file_is_noticed_even_if_it_has_grown_beyond(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, *({"step": n, "train/loss": 1.0, "speed": 10.0} for n in range(1, 10)))
    reader = read(path)
    mark = reader.mark
    MetricsFile(path).rewind(5)
    write(path, *({"step": n, "train/loss": 2.0, "speed": 11.0} for n in range(6, 20)))
    assert reader.read_after(mark) is None  # also before anybody has looked at the new rows
    assert reader.read_after("0") is None
    assert reader.refresh() is True
    assert reader.read_after(mark) is None
    assert [x for _, x in reader.describe(100)["series"]["train/loss"]] == [1.0] * 5 + [2.0] * 14


@pytest.mark.parametrize("mark", ["", "x", "-1", "7", "99999", "1-", "0-zzz", "9" * 40, "18446744073709551616", "²"])
def test_a_mark_that_fits_no_line_is_refused(tmp_path: Path, mark: str) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, {"step": 1, "train/loss": 2.0}, {"step": 2, "train/loss": 2.0})
    assert read(path).read_after(mark) is None


def test_too_many_new_rows_are_not_sent_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    line = json.dumps({"step": 1, "train/loss": 2.0}) + "\n"
    path.write_text(line * (MOST_AT_ONCE // len(line) + 2))
    assert read(path).read_after("0") is None


def test_missing_file_and_link_have_no_rows(tmp_path: Path) -> None:
    (tmp_path / "other.jsonl").write_text('{"step": 1, "train/loss": 2.0}\n')
    (tmp_path / "metrics.jsonl").symlink_to(tmp_path / "other.jsonl")
    for name in ("metrics.jsonl", "nothing.jsonl"):
        assert read(tmp_path / name).describe(100)["rows"] == 0


def test_blocks_are_joined_without_losing_a_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    filler = "x" * 900
    with path.open("w") as stream:
        stream.writelines(f'{{"step": {n}, "train/loss": {n}.5, "text": "{filler}"}}\n' for n in range(BLOCK // 300))
    reader = read(path)
    assert (reader.rows, reader.bad, reader.offset) == (BLOCK // 300, 0, path.stat().st_size)
    assert reader.curves["train/loss"].values.tolist() == [n + 0.5 for n in range(BLOCK // 300)]


def test_few_points_keep_the_spike_the_ends_and_the_step_of_a_finding() -> None:
    values = [2.0 + 0.001 * (n % 7) for n in range(100_000)]
    values[61_803], values[31_415] = 9.0, -1.0
    curve = MetricCurve()
    curve.extend(range(1, 100_001), values)
    found = thin(curve, 800, [27_183])
    assert len(found) <= 800
    assert [found[0], found[-1]] == [[1, values[0]], [100_000, values[-1]]]
    assert [61_804, 9.0] in found
    assert [31_416, -1.0] in found
    assert 27_183 in [step for step, _ in found]
    assert [step for step, _ in found] == sorted({step for step, _ in found})


def test_a_gap_stays_when_points_are_left_out() -> None:
    curve = MetricCurve()
    curve.extend(range(10_000), [math.nan if 5_000 <= n < 5_400 else 1.0 for n in range(10_000)])
    found = thin(curve, 100)
    assert [step for step, y in found if y is None]
    assert all(5_000 <= (step or 0) < 5_400 for step, y in found if y is None)


def test_all_values_missing_are_drawn_as_nothing() -> None:
    curve = MetricCurve()
    curve.extend(range(1000), [math.nan] * 1000)
    assert {y for _, y in thin(curve, 20)} == {None}


def test_finite_values_are_those_that_are_no_gap() -> None:
    curve = MetricCurve()
    curve.extend([1, 2], [3.0, 1e308])
    curve.extend([3], [1e308])  # their sum is infinite, none of them is
    assert curve.list_finite() is curve.values
    curve.extend([4, 5, 6], [math.nan, math.inf, 2.0])
    assert (curve.gaps, list(curve.list_finite())) == (2, [3.0, 1e308, 1e308, 2.0])


def test_rows_are_read_alike_with_and_without_the_fast_library(monkeypatch: pytest.MonkeyPatch) -> None:
    data = b'{"step": 1, "a": 1.5}\n{"step": 2, "a": NaN}\nx\n{"step": 3, "a": 12}\n'
    fast = parse_rows(data)
    monkeypatch.setattr("fulgurite.board.metrics._load_fast", json.loads)
    assert repr(parse_rows(data)) == repr(fast)
    assert [row["step"] for row in fast[0]] == [1, 2, 3]
