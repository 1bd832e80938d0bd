"""The share of the peak: operations times tokens a second, over what was logged."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fulgurite.callback.throughput import Throughput, compute_mean_length
from fulgurite.config.compose import compose
from fulgurite.errors import ConfigError
from fulgurite.plan.preflight import refuse_impossible


def run_steps(callback: Throughput, seconds: list[float]) -> list[dict[str, Any]]:
    """The records of steps of 100 tokens that end at these seconds."""
    stage: Any = SimpleNamespace(device=torch.device("cpu"), step_tokens_read=100, pace=SimpleNamespace(trained=0.0))
    records = []
    for step, end in enumerate(seconds, 1):
        stage.pace.trained, stage.step_record = end, {}
        callback.on_step(SimpleNamespace(), stage, step)  # type: ignore[arg-type]
        records.append(stage.step_record)
    return records


def test_the_share_is_that_of_the_steps_since_the_last_row() -> None:
    # 6e9 operations a token, 200 tokens in 4 s, then 200 in 2 s, of a peak of 3e12; the fifth step is the last
    records = run_steps(Throughput(6e9, 2, 5, 3.0), [3.0, 4.0, 5.0, 6.0, 7.0])
    assert records == [
        {}, {"train/mfu": pytest.approx(0.1)}, {}, {"train/mfu": pytest.approx(0.2)}, {"train/mfu": pytest.approx(0.2)},
    ]


@pytest.mark.parametrize(("operations", "peak"), [(None, 3.0), (6e9, None)])
def test_without_the_operations_or_the_peak_there_is_no_share(operations: float | None, peak: float | None) -> None:
    assert run_steps(Throughput(operations, 1, 1, peak), [1.0]) == [{}]


def test_the_length_is_the_one_that_a_token_sees() -> None:
    assert compute_mean_length([10, 30]) == (10 * 10 + 30 * 30) / 40
    assert compute_mean_length([]) == 0


def test_a_stage_that_generates_is_refused() -> None:
    words = ["model=tiny", "callback=[throughput]"]
    refuse_impossible(compose(words).run)
    with pytest.raises(ConfigError, match=r"callback=throughput counts the arithmetic of training, and stage=grpo"):
        refuse_impossible(compose([*words, "stage=grpo", "data=guide_prompts", "stage.reward=['length:80']"]).run)
