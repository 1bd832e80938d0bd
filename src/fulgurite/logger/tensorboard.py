"""TensorBoard through Lightning's logger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fulgurite.logger.config import TensorBoard
from fulgurite.logger.guard import GuardedLogger


def build(
    config: TensorBoard, *, settings: dict[str, Any], run_dir: Path, provenance: dict[str, Any],
    summary: dict[str, Any],
) -> GuardedLogger:
    """Returns the tracker, which writes to `run_dir/tensorboard`."""
    return GuardedLogger(lambda: _open(run_dir), name="tensorboard", close=lambda tracker: tracker.experiment.close())


def _open(run_dir: Path) -> Any:
    from lightning.pytorch.loggers import TensorBoardLogger

    class Board(TensorBoardLogger):  # type: ignore[misc]
        def log_text(self, key: str, columns: list[str], data: list[list[str]], step: int | None = None) -> None:
            self.experiment.add_text(key, to_markdown(columns, data), step)

    return Board(save_dir=run_dir, name="", version="tensorboard")


def to_markdown(columns: list[str], data: list[list[str]]) -> str:
    """Returns a table as Markdown, the only form of text that TensorBoard shows."""
    lines = [columns, ["---"] * len(columns), *data]
    return "\n".join("| " + " | ".join(_format_cell(text) for text in line) + " |" for line in lines)


def _format_cell(text: object) -> str:
    # TensorBoard renders HTML inside Markdown, and the text may contain some.
    plain = str(text).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
    return plain.replace("\r", "").replace("\n", "<br>")
