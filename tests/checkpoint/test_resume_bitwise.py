"""Stopped and resumed is bit for bit the run that was never stopped: weights, optimizer, random states, rows, order."""

import json
import os
import signal

import pytest
from tests.checkpoint.toy_training import PER_EPOCH, At, digest, train

from fulgurite.errors import Interrupted

STEPS = 3 * PER_EPOCH


@pytest.fixture(scope="module", params=["epochs", "steps"])
def whole(request, tmp_path_factory):
    run = tmp_path_factory.mktemp("whole")
    train(run, limit=request.param)
    return request.param, digest(run)


def signalled(number=signal.SIGTERM):
    return lambda: os.kill(os.getpid(), number)


@pytest.mark.parametrize("step", range(STEPS - 1))
def test_stop_in_the_middle_of_a_window_after_every_step(tmp_path, whole, step):
    limit, expected = whole
    with pytest.raises(Interrupted, match=f"after step {step + 1}, saved in .*step-{step + 1}; go on with resume.run="):
        train(tmp_path, At("on_train_batch_start", step, signalled(), batch=1), limit=limit)
    train(tmp_path, limit=limit)
    assert digest(tmp_path) == expected


def test_a_signal_in_the_last_step_lets_the_run_end(tmp_path, whole):
    limit, expected = whole
    train(tmp_path, At("on_train_batch_start", STEPS - 1, signalled(), batch=1), limit=limit)
    assert digest(tmp_path) == expected


@pytest.mark.parametrize("step", range(STEPS))
def test_stop_between_two_steps(tmp_path, whole, step):
    limit, expected = whole
    with pytest.raises(Interrupted, match=f"after step {step},"):
        train(tmp_path, At("on_train_batch_start", step, signalled(signal.SIGINT)), limit=limit)
    train(tmp_path, limit=limit)
    assert digest(tmp_path) == expected


@pytest.mark.parametrize("step", [2, 4, 6, 8])
@pytest.mark.parametrize("hook", ["on_validation_start", "on_validation_batch_end"])
def test_an_evaluation_that_was_cut_off_is_made_again_and_told_once(tmp_path, whole, step, hook):
    limit, expected = whole
    with pytest.raises(Interrupted, match=f"after step {step},"):
        train(tmp_path, At(hook, step, signalled()), limit=limit)
    train(tmp_path, limit=limit)
    assert digest(tmp_path) == expected


@pytest.mark.parametrize("step", [2, 6])
def test_an_evaluation_that_was_owed_and_made_is_told_once_though_the_run_stops_before_its_next_checkpoint(
    tmp_path, whole, step
):
    limit, expected = whole
    for hook in ("on_validation_batch_end", "on_validation_end", "on_validation_end"):
        with pytest.raises(Interrupted, match=f"after step {step},"):
            train(tmp_path, At(hook, step, signalled()), limit=limit)
    train(tmp_path, limit=limit)
    assert digest(tmp_path) == expected


def test_stop_at_every_step_in_turn(tmp_path, whole):
    limit, expected = whole
    for step in range(1, STEPS):
        with pytest.raises(Interrupted):
            train(tmp_path, At("on_train_batch_end", step, signalled()), limit=limit)
    train(tmp_path, limit=limit)
    assert digest(tmp_path) == expected


def test_evaluation_at_an_epochs_end(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(whole, eval_every=PER_EPOCH)
    for hook in ("on_validation_start", "on_train_epoch_end", "on_train_epoch_start", "on_train_batch_start"):
        run = cut / hook
        with pytest.raises(Interrupted):
            train(run, At(hook, PER_EPOCH, signalled()), eval_every=PER_EPOCH)
        train(run, eval_every=PER_EPOCH)
        assert digest(run) == digest(whole), hook


def test_each_epoch_is_a_permutation_whatever_was_stopped(tmp_path):
    for step in range(1, STEPS):
        with pytest.raises(Interrupted):
            train(tmp_path, At("on_train_batch_end", step, signalled()))
    train(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    for epoch in range(3):
        assert sorted(i for r in rows if r["epoch"] == epoch and "ids" in r for i in r["ids"]) == list(range(16))
