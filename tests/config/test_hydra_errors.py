"""Errors of Hydra and OmegaConf as one sentence, made from their text alone."""

from __future__ import annotations

import pytest

from fulgurite.config.hydra_errors import explain_error, find_owners
from fulgurite.config.run import load_options
from fulgurite.errors import ConfigError

load_options()

CASES = {
    "an option that there is not": (
        "Could not find 'optim/adamv'", ["optim=adamv"],
        "There is no optim=adamv. Did you mean adamw? There are: adafactor",
    ),
    "a parameter of another option": (
        "Could not override 'scheduler.cycles'.", ["scheduler.cycles=3"],
        "scheduler.cycles is not a parameter of the chosen scheduler; it belongs to scheduler=cosine_with_restarts. "
        "To use it, write scheduler=cosine_with_restarts scheduler.cycles=3.",
    ),
    "a parameter with another name under another option": (
        "Could not override 'stage.beta'.", ["stage.beta=0.1"], " With stage=grpo it is stage.kl_coefficient.",
    ),
    "a value of another type": (
        "ValidationError: Value 'abc' of type 'str' could not be converted to Float\n full_key: optim.lr",
        ["optim.lr=abc"],
        "optim.lr=abc is not allowed: it must be a number.",
    ),
    "a choice": (
        "Invalid value 'chop', expected one of [drop]: Enum\n full_key: data.too_long", ["+data.too_long=chop"],
        "data.too_long=chop is not allowed: it must be one of drop, truncate, error.",
    ),
    "an earlier name in a file": (
        "Key 'batch_size' is not in struct\n full_key: trainer.batch_size", [],
        "trainer.batch_size is now trainer.global_batch_size. Write that name in the file that sets it.",
    ),
    "several values without -m": (
        "Ambiguous value for argument 'seed=1,2'", ["seed=1,2"],
        "seed=1,2 has several values: add -m to run each of them",
    ),
    "anything else": ("something\n  else " + "x" * 400, [], "The configuration cannot be composed: something else xxx"),
}


@pytest.mark.parametrize("name", CASES)
def test_an_error_becomes_one_sentence_with_the_remedy(name: str) -> None:
    text, words, sentence = CASES[name]
    found = explain_error(ValueError(text), words)
    assert isinstance(found, ConfigError)
    assert sentence in str(found)
    assert len(str(found)) < 400


def test_the_cause_of_an_error_is_read_too() -> None:
    outer = RuntimeError("Error merging override")
    outer.__cause__ = ValueError("could not be converted\n full_key: optim.lr")
    assert str(explain_error(outer, ["optim.lr=abc"])) == "optim.lr=abc is not allowed: it must be a number."


def test_the_options_that_have_a_parameter() -> None:
    assert find_owners("logger.wandb.project") == ["logger=wandb"]
    assert find_owners("optim.momentum") == sorted(find_owners("optim.momentum")) != []
    assert find_owners("nothing") == []
