"""Errors: exit statuses, excerpts of foreign messages, shortages of memory, and the nearest known word."""

from __future__ import annotations

import errno
import pickle
import signal

import pytest

from fulgurite.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    FulguriteError,
    Interrupted,
    ModelError,
    Pruned,
    RequestError,
    TrainingFailed,
    excerpt,
    find_nearest,
    is_shortage,
    join_or,
    suggest_similar,
)


@pytest.mark.parametrize(("kind", "status"), [
    (ConfigError, 2), (DataError, 2), (ModelError, 2), (CheckpointError, 2), (TrainingFailed, 3), (Pruned, 0),
])
def test_each_error_knows_the_exit_status_of_the_process(kind: type[FulguriteError], status: int) -> None:
    assert kind("x").exit_status == status
    assert issubclass(kind, RequestError) is (status == 2)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
def test_an_interrupt_has_the_status_that_a_shell_reports(number: int, status: int) -> None:
    error = Interrupted("stopped", number)
    assert error.exit_status == status
    assert Interrupted.of(status, "again").exit_status == status
    assert not isinstance(error, Exception | KeyboardInterrupt)  # `except Exception` must not swallow it


def test_a_short_message_is_kept_on_one_line() -> None:
    assert excerpt(ValueError("one\n  two")) == "one two"


def test_a_message_is_cut_between_sentences_and_keeps_its_remedy() -> None:
    story = "This is a story about nothing in particular that goes on. " * 30
    long = f'It does not work. {story}Please use `attn_implementation="eager"`. End.'
    found = excerpt(long)
    assert len(found) <= 600
    assert found.startswith("It does not work.")
    assert 'Please use `attn_implementation="eager"`.' in found
    assert excerpt("a\n b") == "a b"
    assert len(excerpt("x" * 5000)) == 600


def test_of_a_long_message_the_first_sentence_and_the_remedy_are_kept() -> None:
    text = "It failed. " + "Nobody reads this. " * 20 + "Please install x."
    found = excerpt(text, most=60)
    assert found.startswith("It failed.")
    assert found.endswith("Please install x.")
    assert len(found) <= 60
    assert excerpt("x" * 100, most=20) == "x" * 18 + " …"


@pytest.mark.parametrize(("error", "short"), [
    (MemoryError(), True), (RuntimeError("CUDA out of memory. Tried to allocate"), True),
    (OSError(errno.ENOMEM, "x"), True),
    (OSError("std::bad_alloc"), True), (type("OutOfMemoryError", (Exception,), {})("x"), True),
    (type("SafetensorError", (Exception,), {})("Cannot allocate memory"), True),
    (ValueError("out of memory"), False), (RuntimeError("wrong shape"), False), (OSError(errno.ENOSPC, "x"), False),
])
def test_a_shortage_of_memory_is_known_by_class_and_words(error: BaseException, short: bool) -> None:
    assert is_shortage(error) is short


def test_the_nearest_words_come_first() -> None:
    known = ["optim.lr", "optim.eps", "optim.betas", "trainer.epochs"]
    assert find_nearest("optim.lrr", known)[0] == "optim.lr"
    assert find_nearest("OPTIM.EPS", known)[0] == "optim.eps"
    assert find_nearest("epochz", known) == ["trainer.epochs"]  # by the last part of the name
    assert find_nearest("learning_rate", known) == ["optim.lr"]
    assert find_nearest("learning_rate", ["optim.eps"]) == []  # the name that is meant is not known here
    assert find_nearest("zzz", known) == []


def test_a_suggestion_is_a_sentence_or_nothing() -> None:
    assert str(suggest_similar("adamv", ["adamw", "sgd"])) == " Did you mean adamw?"
    assert str(suggest_similar("adam", ["adamw", "badam"])) == " Did you mean badam or adamw?"
    assert not suggest_similar("zzz", ["adamw"])


def test_names_are_joined_by_or() -> None:
    assert [str(join_or(names)) for names in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a or b", "a, b or c"]


def test_misspelt_name_of_another_trainer_is_understood() -> None:
    assert find_nearest("learning_rte", ["optim.lr", "optim.eps"]) == ["optim.lr"]
    assert find_nearest("quantization_bit", ["method=qlora", "method=lora"]) == ["method=qlora"]


def test_nothing_is_suggested_below_a_threshold_of_likeness() -> None:
    assert find_nearest("gradient_clipping", ["trainer.gradient_checkpointing"]) == []
    assert find_nearest("adapter", ["optim=adafactor"]) == []


def test_interrupt_keeps_its_sentence_and_signal_in_another_process() -> None:
    error = pickle.loads(pickle.dumps(Interrupted("Stopped after step {step}.", signal.SIGTERM, step=3)))
    assert (str(error), error.number) == ("Stopped after step 3.", signal.SIGTERM)
