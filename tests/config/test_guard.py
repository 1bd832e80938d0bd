"""Words and values that must not reach a run: code that nobody asked for, the environment, keys of Hydra."""

from __future__ import annotations

from typing import Any

import pytest

from fulgurite.config.guard import (
    Allowed,
    refuse_hydra,
    refuse_hydra_code,
    refuse_resolver,
    refuse_stored_code,
    split_allowed,
)
from fulgurite.errors import ConfigError


def test_words_that_allow_code_are_split_from_the_others() -> None:
    words = ["run=a", "plugins=[one,two.three]", "model.trust_remote_code=True", "model.revision=0a", "plugins"]
    assert split_allowed(words) == (Allowed(("one", "two.three"), True, "0a"), ["run=a", "plugins"])
    assert split_allowed(["run=a"]) == (Allowed(), ["run=a"])
    with pytest.raises(ConfigError, match=r"model\.trust_remote_code=perhaps is not allowed: it must be true or false"):
        split_allowed(["model.trust_remote_code=perhaps"])


@pytest.mark.parametrize("word", [
    "plugins=[mine]", "+plugins=mine", "model.trust_remote_code=true", "model.trust_remote_code=anything",
    "stage.reward=[mine.py:score]", "stage.reward=${x}", "hydra/launcher=mine", "hydra.run.dir=x",
])
def test_a_stored_word_that_runs_code_is_refused_unless_it_is_given_again(word: str) -> None:
    with pytest.raises(ConfigError) as caught:
        refuse_stored_code(["optim.lr=1", word], ["seed=3"], "runs/a")
    assert str(caught.value).startswith(f"runs/a was run with {word}, which lets code run")
    assert refuse_stored_code(["optim.lr=1", word], [word], "runs/a") == ["optim.lr=1"]


@pytest.mark.parametrize("word", [
    "plugins=[]", "plugins=null", "model.trust_remote_code=false", "stage.reward=[match:answer]", "name=plugins",
])
def test_a_stored_word_that_runs_no_code_is_kept(word: str) -> None:
    assert refuse_stored_code([word], [], "runs/a") == [word]


def test_who_trusts_a_model_s_code_anew_gives_the_revision_anew() -> None:
    stored = ["model.trust_remote_code=true", "model.revision=0a"]
    assert refuse_stored_code(stored, ["model.trust_remote_code=true"], "runs/a") == []


@pytest.mark.parametrize("text", ["${oc.env:HOME}", "a ${oc.env:HOME,b}", "${ oc.create : x}", "${oc.decode:x}",
    "${mine:1}"])
def test_a_resolver_that_reads_more_than_the_config_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"run_dir may not hold \$\{"):
        refuse_resolver("run_dir", text)


@pytest.mark.parametrize("text", ["${now:%Y}", "${hydra:job.num}", "${seed}", "\\${oc.env:HOME}", "$HOME {a: b}"])
def test_other_references_pass(text: str) -> None:
    refuse_resolver("run_dir", text)


@pytest.mark.parametrize(("config", "name"), [
    ({"sweeper": {"_target_": "os.system"}}, "hydra.sweeper._target_"),
    ({"launcher": [{"_target_": "hydrated.evil"}]}, "hydra.launcher._target_"),
    ({"job_logging": {"handlers": {"x": {"class": "mine.Handler"}}}}, "hydra.job_logging.handlers.x.class"),
    ({"job_logging": {"handlers": {"x": {"()": "logging.Handler"}}}}, "hydra.job_logging.handlers.x.()"),
    ({"callbacks": {"x": {"_target_": "hydra.experimental.X"}}}, "hydra.callbacks.x._target_"),
    ({"job": {"env_set": {"PATH": "x"}}}, "hydra.job.env_set.PATH"),
])
def test_a_yaml_file_cannot_name_code_outside_of_hydra(config: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        refuse_hydra_code(config)
    assert str(caught.value).startswith(f"{name} is set in a YAML file")


def test_hydra_s_own_code_is_no_foreign_code() -> None:
    refuse_hydra_code({
        "sweeper": {"_target_": "hydra._internal.BasicSweeper"}, "launcher": {"_target_": "hydra_plugins.x.Y"},
        "job_logging": {"handlers": {"file": {"class": "logging.FileHandler"}}}, "job": {"num": 3},
    })


@pytest.mark.parametrize("name", ["hydra.sweep.dir", "hydra.sweeper.params.x", "hydra/launcher", "hydra/launcher/x"])
def test_keys_of_hydra_that_may_be_set(name: str) -> None:
    refuse_hydra(name)


@pytest.mark.parametrize(("name", "sentence"), [
    ("hydra.run.dir", "hydra.run.dir is not for a run here; give run_dir=<folder>."),
    ("hydra.sweep.dirs", "Did you mean hydra.sweep.dir"), ("hydra.job.env_set.PATH", "cannot be set here"),
    ("hydra.sweeper._target_", "cannot be set here"), ("hydra.launchers", "cannot be set here"),
])
def test_other_keys_of_hydra_are_refused(name: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        refuse_hydra(name)
    assert sentence in str(caught.value)
