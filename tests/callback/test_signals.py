"""Signals: one finishes the step and saves, two leave at once, and whoever listened before listens again."""

import os
import signal
import threading

import pytest
from tests.checkpoint.toy_training import At, digest, train

from fulgurite.callback.signals import SIGNALS, SignalHandler
from fulgurite.checkpoint import folder, resume
from fulgurite.errors import Interrupted


@pytest.fixture(autouse=True)
def hangup():
    """SIGHUP does what it does in a terminal, also if the tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def send(*numbers):
    return lambda: [os.kill(os.getpid(), number) for number in numbers]


@pytest.mark.parametrize("number", SIGNALS)
def test_one_signal_saves_and_says_where_and_how_to_go_on(tmp_path, number):
    with pytest.raises(Interrupted) as caught:
        train(tmp_path, At("on_train_batch_end", 3, send(number)))
    path = tmp_path / "checkpoints" / "step-3"
    assert str(caught.value) == (
        f"Stopped by {signal.Signals(number).name} after step 3, saved in {path}; go on with resume.run={tmp_path}."
    )
    assert caught.value.exit_status == (130 if number == signal.SIGINT else 143)
    assert resume.find(tmp_path) == path


def test_before_the_first_step(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    with pytest.raises(Interrupted, match="after step 0"):
        train(cut, At("on_train_start", 0, send(signal.SIGINT)))
    train(cut)
    train(whole)
    assert digest(cut) == digest(whole)


@pytest.mark.parametrize("numbers", [(2, 2), (15, 2), (15, 15)])
def test_a_second_signal_leaves_at_once_with_the_old_checkpoint_whole(tmp_path, numbers):
    with pytest.raises(Interrupted, match=r"at once by a second signal, .*: the last checkpoint is that of step 2;"):
        train(tmp_path, At("on_train_batch_start", 3, send(*numbers), batch=1))
    assert resume.find(tmp_path) == tmp_path / "checkpoints" / "step-2"
    train(tmp_path)


def test_a_second_signal_before_any_checkpoint(tmp_path):
    with pytest.raises(Interrupted, match="no checkpoint was made yet"):
        train(tmp_path, At("on_train_batch_start", 1, send(2, 2), batch=1))


def test_a_second_signal_inside_the_write(tmp_path, monkeypatch):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(whole)
    seal = folder.write_manifest

    def interrupted(draft, **how):
        if draft.name.startswith("step-4"):
            send(15, 15)()
        seal(draft, **how)

    monkeypatch.setattr(folder, "write_manifest", interrupted)
    with pytest.raises(Interrupted, match="the last checkpoint is that of step 2"):
        train(cut)
    monkeypatch.undo()
    assert sorted(p.name for p in (cut / "checkpoints").iterdir()) == ["best", "last", "step-2"]
    train(cut)
    assert digest(cut) == digest(whole)


def test_one_signal_inside_the_write_waits_for_its_end(tmp_path, monkeypatch):
    seal = folder.write_manifest

    def interrupted(draft, **how):
        if draft.name.startswith("step-2"):
            send(15)()
        seal(draft, **how)

    monkeypatch.setattr(folder, "write_manifest", interrupted)
    with pytest.raises(Interrupted, match="after step 3"):
        train(tmp_path)  # the checkpoint of step 2 is written between two steps: step 3 is the one that is finished
    assert folder.list_steps(tmp_path / "checkpoints") == [2, 3]


def test_the_handlers_from_before_are_put_back(tmp_path):
    before = {number: signal.getsignal(number) for number in SIGNALS}
    mine = {number: (lambda *_: None) for number in SIGNALS}
    try:
        for number, handler in mine.items():
            signal.signal(number, handler)
        train(tmp_path / "ends", epochs=1)
        assert {number: signal.getsignal(number) for number in SIGNALS} == mine
        with pytest.raises(Interrupted):
            train(tmp_path / "stopped", At("on_train_batch_end", 1, send(15)), epochs=1)
        assert {number: signal.getsignal(number) for number in SIGNALS} == mine
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_another_thread_leaves_the_handlers_alone():
    before, seen = signal.getsignal(signal.SIGINT), []

    def run():
        with SignalHandler(None).listening():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_third_signal_ends_the_process(monkeypatch):
    left = []
    monkeypatch.setattr(os, "_exit", left.append)
    stop = SignalHandler(type("Nothing", (), {"newest": None, "folder": folder.Path("run/checkpoints")}))
    stop._heard(signal.SIGINT, None)
    with pytest.raises(Interrupted):
        stop._heard(signal.SIGINT, None)
    stop._heard(signal.SIGINT, None)
    assert left == [130]
