"""TensorBoard: numbers, tables as Markdown, and one line if it is not installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from fulgurite.config.compose import compose
from fulgurite.errors import ConfigError
from fulgurite.logger.build import build_loggers
from fulgurite.logger.tensorboard import to_markdown
from fulgurite.logger.tracked_run import TrackedRun
from fulgurite.plan.preflight import refuse_impossible


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_has_the_numbers_and_the_samples(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trackers = build_loggers(compose(["logger=tensorboard"]).run.logger, TrackedRun(tmp_path))
    trackers[0].log_metrics({"train/loss": 0.5}, 1)
    trackers[0].log_metrics({"train/loss": 0.25}, 2)
    trackers[0].log_text("samples", ["prompt", "answer"], [["<b>Why?</b>", "a|b\nc"]], 2)
    trackers[0].finalize("success")
    assert trackers[0].works
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(1, 0.5), (2, 0.25)]
    text = events.Tensors("samples/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| &lt;b>Why?&lt;/b> | a\\|b<br>c |" in text


def test_a_missing_tensorboard_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs the package tensorboard, which is not installed.*pip install tensor"):
        refuse_impossible(compose(["logger=tensorboard"]).run)


def test_markdown_of_a_table() -> None:
    assert to_markdown(["a", "b"], [["1", "<script>"]]) == "| a | b |\n| --- | --- |\n| 1 | &lt;script> |"
