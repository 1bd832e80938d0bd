"""What is kept of a run's steps, and how it goes through a checkpoint."""

from __future__ import annotations

import json
import math

from tests.monitor.rules.series import FALLING, record_steps

from fulgurite.monitor.history import FIRST, RECENT, UPDATES, About, History, get_column


def test_history_goes_through_its_state() -> None:
    made = record_steps(FALLING, accuracy=0.5)
    made.record_evaluation(150, 1.5)
    made.add(151, {"train/loss": 1.0, "train/update_ratio": 0.01, "train/lr": 1e-4}, 7)
    again = History.from_state(json.loads(json.dumps(made.get_state())))
    assert again == made
    assert again.get_state() == made.get_state()
    again.add(152, {"train/loss": 1.0}, 7)
    assert len(again.recent) == len(made.recent) == 100
    assert len(again.first) == 50
    assert made.step == 151


def test_first_and_newest_steps_are_kept_and_no_more() -> None:
    made = record_steps(range(1, 301))
    assert (FIRST, RECENT, UPDATES) == (50, 100, 16)
    assert get_column(made.first, "train/loss") == [*range(1, 51)]
    assert get_column(made.recent, "train/loss") == [*range(201, 301)]
    assert get_column(made.get_newest(2), "train/loss") == [299, 300]
    assert (made.step, made.last["train/loss"], made.whole) == (300, 300, True)


def test_only_named_metrics_are_kept() -> None:
    made = History()
    made.add(3, {"train/loss": 1.5, "train/other": 2.0}, 9)
    assert made.last == {"step": 3, "labels": 9, "train/loss": 1.5}
    assert (made.begun, made.whole) == (3, False)


def test_newest_update_ratios_are_kept_with_their_rates() -> None:
    made = History()
    for step in range(1, 21):
        made.add(step, {"train/update_ratio": step / 100, "train/lr": 1e-4} if step % 2 else {"train/loss": 1.0}, 1)
    assert [(u.step, u.ratio) for u in made.updates] == [(n, n / 100) for n in range(1, 20, 2)]
    assert made.first_update == 1
    for step in range(21, 41):
        made.add(step, {"train/update_ratio": 0.5}, 1)
    assert [u.step for u in made.updates] == [*range(25, 41)]


def test_evaluation_has_the_mean_training_loss_since_the_one_before() -> None:
    made = History()
    made.record_evaluation(0, 3.0)
    for step, loss in enumerate((2.0, 4.0, 1.0), 1):
        made.add(step, {"train/loss": loss}, 1)
        if step > 1:
            made.record_evaluation(step, loss / 2)
    assert math.isnan(made.evaluations[0].train)
    assert [(e.step, e.train, e.val) for e in made.evaluations[1:]] == [(2, 3.0, 2.0), (3, 1.0, 0.5)]


def test_empty_history_is_at_step_zero() -> None:
    assert (History().step, History().whole, History().get_newest(3)) == (0, False, [])


def test_a_stage_with_pairs_is_one_that_compares_two_answers_with_a_reference() -> None:
    assert [stage for stage in ("sft", "pt", "dpo", "kto", "rm", "grpo", "ppo") if About(stage).pairs] == ["dpo"]
    assert About("dpo", "ipo").declared_loss.squared
    assert not About("dpo", "sigmoid").declared_loss.squared
