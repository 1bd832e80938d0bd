"""metrics.csv: the rows of metrics.jsonl as columns."""

from __future__ import annotations

from pathlib import Path

from tests.logger.tracked_steps import track_steps

from fulgurite.logger.csv import CsvView, to_csv


def test_csv_is_the_rows_as_columns(tmp_path: Path) -> None:
    track_steps(tmp_path, ["logger=csv"])
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    head = lines[0].split(",")
    assert head[:4] == ["step", "epoch", "tokens", "train/loss"]
    assert "val/loss" in head
    assert [line.split(",")[0] for line in lines[1:]] == ["1", "2", "2", "3", "4", "4"]


def test_a_table_has_a_column_for_each_key() -> None:
    rows = [{"step": 1, "train/loss": 0.5}, {"step": 1, "val/loss": 0.25}, {"step": 2, "train/loss": None}]
    assert to_csv(rows) == "step,train/loss,val/loss\n1,0.5,\n1,,0.25\n2,,\n"


def test_the_rows_are_copied_at_an_evaluation_and_at_the_end(tmp_path: Path) -> None:
    source, copy, view = tmp_path / "metrics.jsonl", tmp_path / "metrics.csv", CsvView(tmp_path)
    view.finalize("success")
    assert not copy.exists()  # there is nothing to copy
    source.write_text('{"step": 1, "train/loss": 0.5}\n')
    view.log_metrics({"train/loss": 0.5}, 1)
    assert not copy.exists()
    view.log_metrics({"val/loss": 0.25}, 1)
    assert copy.read_text() == "step,train/loss\n1,0.5\n"
    source.write_text(source.read_text() + '{"step": 2, "train/loss": 0.25}\n')
    view.finalize("success")
    assert copy.read_text() == "step,train/loss\n1,0.5\n2,0.25\n"


def test_a_table_of_nothing_has_no_columns() -> None:
    assert to_csv([]).strip() == ""
