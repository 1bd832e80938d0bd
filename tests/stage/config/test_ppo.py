"""The parameters of ppo: what a fixed coefficient does not read, and what the stage needs."""

from __future__ import annotations

import pytest

from fulgurite.config.compose import compose
from fulgurite.stage.config import KlControl

WORDS = ["stage=ppo", "stage.reward=['length:5']", "logger=none"]


@pytest.mark.parametrize(("word", "value"), [("kl_target=3", "3"), ("kl_horizon=50", "50")])
def test_a_fixed_coefficient_refuses_what_the_adaptive_one_reads(word: str, value: str) -> None:
    fixed = compose([*WORDS, f"stage.{word}"]).run
    name = word.partition("=")[0]
    assert str(fixed.stage.find_refusal(fixed)) == (
        f"stage.kl_control=fixed does not use stage.{name}={value}; leave it out, or use "
        "stage.kl_control=adaptive."
    )
    adaptive = compose([*WORDS, f"stage.{word}", "stage.kl_control=adaptive"]).run
    assert adaptive.stage.find_refusal(adaptive) is None


def test_ppo_has_one_answer_a_prompt_a_value_head_and_always_a_reference() -> None:
    stage = compose([*WORDS, "stage.kl_coefficient=0"]).run.stage
    assert (stage.kl_control, stage.value_head, stage.count_answers()) == (KlControl.fixed, True, 1)
    assert (stage.is_reference_needed(), stage.has_reference(adapter=True), stage.has_reference(adapter=False)) == (
        True, False, True,
    )
    assert stage.recommend_batch_size().value == 64


def test_what_every_rollout_refuses_is_refused_here_too() -> None:
    run = compose(["stage=ppo", "logger=none"]).run
    assert "stage=ppo needs stage.reward=" in str(run.stage.find_refusal(run))
