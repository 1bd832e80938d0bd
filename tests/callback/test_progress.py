"""The line a person looks at: its words, its forecast, and its silence in a log."""

from __future__ import annotations

import io
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.callback.toy_stage import ToyStage, fit

from fulgurite.callback.progress import ProgressLine, TimeLeft, format_clock


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """Each reading is `step` seconds after the one before."""

    def __init__(self, step: float) -> None:
        self.step, self.now = step, 0.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def last_line(text: str) -> str:
    """What is on the screen at the end: the last redraw, without colours."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n").strip().splitlines()[-1]


def test_the_first_steps_do_not_shape_the_forecast() -> None:
    forecast = TimeLeft(total=100)
    assert forecast.left(1, trained=60.0, paused=0) is None
    assert forecast.left(2, trained=61.0, paused=0) is None
    # Steps 3 to 10 take 1 s each: 90 remain.
    assert forecast.left(10, trained=69.0, paused=0) == pytest.approx(90.0)


def test_pauses_count_at_the_rate_known_when_the_last_one_ended() -> None:
    forecast = TimeLeft(total=102)
    forecast.left(2, trained=10.0, paused=5.0)
    forecast.left(51, trained=59.0, paused=5.0)
    # One pause of 49 s in the 50 steps since the warm-up: 0.98 s a step beside 1 s of training, and 50 remain.
    first = forecast.left(52, trained=60.0, paused=54.0)
    assert first == pytest.approx(50 * (1 + 49 / 50))
    # It does not melt away until the next pause.
    assert forecast.left(62, trained=70.0, paused=54.0) == pytest.approx(40 * (1 + 49 / 50))


def test_a_resumed_run_is_forecast_from_its_own_steps() -> None:
    forecast = TimeLeft(total=100, done=50)
    assert forecast.left(51, trained=9.0, paused=0) is None
    forecast.left(52, trained=10.0, paused=0)
    assert forecast.left(54, trained=14.0, paused=0) == pytest.approx(46 * 2.0)


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0:00"), (65, "1:05"), (3599.6, "1:00:00"), (7325, "2:02:05")])
def test_time_as_a_person_reads_it(seconds: float, words: str) -> None:
    assert format_clock(seconds) == words


def test_a_log_gets_few_plain_lines(tmp_path: Path) -> None:
    out = io.StringIO()
    fit(
        [ProgressLine(30, stream=out, clock=Clock(0.01))],
        stage=ToyStage(Clock(0.01)),
        steps=30,
        eval_every=15,
        folder=tmp_path,
    )
    lines = out.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == ["1/30", "15/30", "30/30", "30/30"]
    assert lines[0].startswith("step 1/30  loss (smoothed) ")
    assert lines[1].startswith("step 15/30  validation loss ")
    assert "\x1b" not in out.getvalue()


@pytest.mark.parametrize(
    ("terminal", "words"), [(False, "lr 0 (the warmup starts at 0, as in transformers)"), (True, "lr 0 (warmup)")]
)
def test_a_first_step_of_rate_0_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool, words: str
) -> None:
    class Warming(ToyStage):
        def configure_optimizers(self) -> Any:
            optimizer = super().configure_optimizers()
            schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(step / 2, 1.0))
            return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    monkeypatch.setenv("TERM", "xterm")
    out = Terminal() if terminal else io.StringIO()
    fit([ProgressLine(8, stream=out, width=100)], steps=8, stage=Warming(), folder=tmp_path)
    assert out.getvalue().count("lr 0 (") == 1
    assert words in out.getvalue()


def test_a_slow_run_in_a_log_says_a_line_now_and_then(tmp_path: Path) -> None:
    out = io.StringIO()
    fit(
        [ProgressLine(200, stream=out, clock=Clock(1.0))],
        stage=ToyStage(Clock(1.0)),
        steps=200,
        micro=1,
        folder=tmp_path,
    )
    steps = [int(line.split()[1].split("/")[0]) for line in out.getvalue().splitlines()]
    assert steps[0] == 1
    assert steps[-1] == 200
    assert 9 <= len(steps) <= 12
    assert all(b - a >= 20 for a, b in pairwise(steps[:-1]))


def test_a_terminal_has_one_line_with_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    fit(
        [ProgressLine(8, stream=out, clock=Clock(0.5), width=100)],
        stage=ToyStage(Clock(0.5)),
        steps=8,
        eval_every=4,
        folder=tmp_path,
    )
    line = last_line(out.getvalue())
    assert re.match(r"8/8 loss \(smoothed\) \d\.\d{3}  val \d\.\d{3}  lr 1\.0e-01  \d+ tok/s +━+$", line), line
    assert "evaluating ..." in out.getvalue()
    assert "left" in out.getvalue()


def test_an_error_gives_the_terminal_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(ToyStage):
        def on_train_epoch_end(self) -> None:
            raise ValueError("broken")

    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    with pytest.raises(ValueError, match="broken"):
        fit([ProgressLine(8, stream=out, width=80)], steps=8, stage=Broken(), folder=tmp_path)
    hide, show = "\x1b[?25l", "\x1b[?25h"
    assert out.getvalue().count(hide) == out.getvalue().count(show) == 1
