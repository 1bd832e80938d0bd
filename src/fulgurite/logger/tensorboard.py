"""TensorBoard through Lightning's logger."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from fulgurite.logger.config import TensorBoard
from fulgurite.logger.guard import GuardedLogger, Histogram
from fulgurite.logger.tracked_run import TrackedRun


def build(config: TensorBoard, run: TrackedRun) -> GuardedLogger:
    """Returns the tracker, which writes to `tensorboard` in the run folder."""
    return GuardedLogger(
        lambda: _open(run.folder), name="tensorboard", close=lambda tracker: tracker.experiment.close()
    )


def _open(run_dir: Path) -> Any:
    from lightning.pytorch.loggers import TensorBoardLogger

    class Board(TensorBoardLogger):  # type: ignore[misc]
        def log_text(self, key: str, columns: list[str], data: list[list[str]], step: int | None = None) -> None:
            self.experiment.add_text(key, to_markdown(columns, data), step)

        def log_histograms(self, histograms: dict[str, Histogram], step: int) -> None:
            for name, (counts, edges) in histograms.items():
                total, weighted, squared = summarize(counts, edges)
                self.experiment.add_histogram_raw(
                    name, min=edges[0], max=edges[-1], num=total, sum=weighted, sum_squares=squared,
                    bucket_limits=list(edges[1:]), bucket_counts=list(counts), global_step=step,
                )

    return Board(save_dir=run_dir, name="", version="tensorboard")


def summarize(counts: Sequence[float], edges: Sequence[float]) -> tuple[float, float, float]:
    """Returns the number of values of a histogram, their sum and the sum of their squares, each value taken as the
    middle of its bin."""
    middles = [(low + high) / 2 for low, high in pairwise(edges)]
    pairs = list(zip(counts, middles, strict=True))
    return sum(counts), sum(n * x for n, x in pairs), sum(n * x * x for n, x in pairs)


def to_markdown(columns: list[str], data: list[list[str]]) -> str:
    """Returns a table as Markdown, the only form of text that TensorBoard shows."""
    lines = [columns, ["---"] * len(columns), *data]
    return "\n".join("| " + " | ".join(_format_cell(text) for text in line) + " |" for line in lines)


def _format_cell(text: object) -> str:
    # TensorBoard renders HTML inside Markdown, and the text may contain some.
    plain = str(text).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
    return plain.replace("\r", "").replace("\n", "<br>")
