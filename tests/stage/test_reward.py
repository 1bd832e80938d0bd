"""Reward models: the loss of Bradley and Terry over pairs, and how a run learns it."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.end_to_end.runs import last, losses, rows, tiny
from tests.stage.preference_data import words_of

from fulgurite.config.compose import compose
from fulgurite.config.schema import build
from fulgurite.model.reward_head import add_reward_head, get_head
from fulgurite.precision.policy import build as build_dtypes


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_reward_model_prefers_the_chosen_answers_of_held_out_pairs(method: str, tmp_path: Path) -> None:
    rate = {"lora": "1e-2", "full": "2e-3"}[method]
    more = [f"method={method}", f"optim.lr={rate}", "trainer.max_steps=12", "trainer.global_batch_size=8",
        "trainer.eval_every=6"]
    folder = tiny(tmp_path / "run", *words_of("rm", tmp_path), *more)
    assert losses(folder)[0] == pytest.approx(math.log(2), abs=1e-6)
    assert last(folder, "val/accuracy") > 0.9
    assert last(folder, "val/reward_margin") > 0.5
    spread = rows(folder)[-1]
    assert {"val/loss", "val/accuracy", "val/reward_margin", "val/reward_mean", "val/reward_std"} <= set(spread)


def stage_of(*words: str) -> Any:
    """The stage over the tiny model, with a reward head that already tells answers apart."""
    run = compose(["model=tiny", "precision=fp32", "method=full", "stage=rm", *words]).run
    dtypes = build_dtypes(run.precision, "cpu")
    torch.manual_seed(0)
    model = add_reward_head(build(run.model, torch.float32).model)
    with torch.no_grad():
        get_head(model).weight.normal_()
    return build(run.stage, model, run, dtypes, 1)


LENGTHS = [5, 3, 4, 6, 2, 5]
"""Tokens of three chosen and three rejected answers."""


def batch() -> dict[str, Any]:
    ids = torch.randint(3, 512, (6, 6), generator=torch.Generator().manual_seed(1))
    margins = torch.tensor([0.0, 0.5, 2.0])
    return {"input_ids": ids, "lengths": torch.tensor(LENGTHS), "margins": margins, "rows": [0, 1, 2]}


@pytest.mark.parametrize("center", [0.0, 0.1])
def test_the_loss_is_bradley_terrys_with_margins_and_centering(center: float) -> None:
    stage, made = stage_of(f"stage.center_rewards_coefficient={center}"), batch()
    states = [
        stage.model.model(input_ids=made["input_ids"][i : i + 1, :n]).last_hidden_state for i, n in enumerate(LENGTHS)
    ]
    rewards = [float(state[0, -1].detach() @ stage.model.score.weight[0].detach()) for state in states]
    expected = sum(
        math.log(1 + math.exp(-(rewards[n] - rewards[n + 3] - float(made["margins"][n]))))
        + center * (rewards[n] + rewards[n + 3]) ** 2
        for n in range(3)
    )
    assert float(stage.compute_total_loss(made).detach()) == pytest.approx(expected, rel=1e-5)
    assert stage.loss_units(made) == 3
    found = stage.reduce_metrics()
    assert found["accuracy"] == sum(rewards[n] > rewards[n + 3] for n in range(3)) / 3
    assert found["reward_margin"] == pytest.approx(sum(rewards[n] - rewards[n + 3] for n in range(3)) / 3, rel=1e-5)
    assert found["reward_mean"] == pytest.approx(statistics.fmean(rewards), rel=1e-5)
    assert found["reward_std"] == pytest.approx(statistics.pstdev(rewards), rel=1e-5)
    assert stage.reduce_metrics() == {}  # they begin again
