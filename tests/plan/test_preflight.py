"""What is refused before torch is loaded."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from fulgurite.config.compose import compose
from fulgurite.config.run import RunConfig, load_options
from fulgurite.config.schema import list_options
from fulgurite.errors import ConfigError, ModelError
from fulgurite.explain.knob_index import build_default_run
from fulgurite.plan.preflight import (
    refuse_find,
    refuse_impossible,
    refuse_missing,
    refuse_unmeasured,
    refuse_unreachable,
)


@pytest.fixture(autouse=True)
def _options() -> None:
    """Options are registered when their modules are imported, whichever test runs first."""
    load_options()


def test_early_stopping_needs_a_validation_loss() -> None:
    constant = list_options("scheduler")["constant"]()
    refuse_unmeasured(constant, 3, has_validation=True)
    refuse_unmeasured(constant, None, has_validation=False)
    with pytest.raises(ConfigError, match=r"early_stopping_patience=3 counts evaluations, but data\.val_fraction=0"):
        refuse_unmeasured(constant, 3, has_validation=False)


def test_plateau_schedule_needs_a_validation_loss() -> None:
    plateau = list_options("scheduler")["reduce_lr_on_plateau"]()
    refuse_unmeasured(plateau, None, has_validation=True)
    with pytest.raises(ConfigError, match="reduce_lr_on_plateau follows the validation loss"):
        refuse_unmeasured(plateau, None, has_validation=False)


def test_options_that_refuse_each_other_are_refused_with_their_sentence() -> None:
    refuse_impossible(build_default_run())
    run = build_default_run(method="lora", optim="galore")
    with pytest.raises(ConfigError) as refused:
        refuse_impossible(run)
    assert str(refused.value) == str(run.optim.find_refusal(run))


def test_every_option_of_a_run_is_asked() -> None:
    run = build_default_run()
    logger = list_options("logger")["tensorboard"]()
    run = replace(run, logger={"tensorboard": logger})
    found = list(run.list_options())
    assert {type(option) for option in (run.stage, run.method, run.optim, run.data, run.model)} <= set(map(type, found))
    assert logger in found


def of_two_devices(run: RunConfig) -> RunConfig:
    return replace(run, trainer=replace(run.trainer, devices=2))


def of_resume(run: RunConfig) -> RunConfig:
    return replace(run, resume=replace(run.resume, run="runs/a"))


def refuse_lr_finder(run: RunConfig) -> None:
    refuse_find(run.stage, run.private, run.world_size, run.resume.run)


def test_learning_rate_finder_is_refused_if_its_loss_means_nothing() -> None:
    refuse_lr_finder(build_default_run())
    with pytest.raises(ConfigError, match="is not possible with stage=grpo"):
        refuse_lr_finder(build_default_run(stage="grpo"))
    with pytest.raises(ConfigError, match="without an account of privacy"):
        refuse_lr_finder(build_default_run(privacy="dp_sgd"))
    with pytest.raises(ConfigError, match=r"trainer\.devices=1"):
        refuse_lr_finder(of_two_devices(build_default_run()))
    with pytest.raises(ConfigError, match=r"leave resume\.run out"):
        refuse_lr_finder(of_resume(build_default_run()))


@pytest.mark.parametrize(("words", "said"), [
    (["method.adapter_path=/nowhere"], "method.adapter_path=/nowhere has no adapter_config.json; use a folder"),
    (["stage=dpo", "data=guide_preference", "stage.reference=./nowhere"],
        "stage.reference=./nowhere: there is no such folder"),
])
def test_folders_that_are_not_there_are_refused_without_the_model(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        refuse_impossible(compose(["model=tiny", *words]).run)


@pytest.mark.parametrize(("path", "reason"), [
    ("a/b/c", "model.path=a/b/c does not exist; give a model folder"),
    ("my model", "model.path=my model does not exist"),
    ("nothing/here", "the hub cache does not have it, and HF_HUB_OFFLINE=1 forbids a download"),
])
def test_model_that_cannot_be_had_is_refused_before_torch(
    path: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    run = build_default_run(model="hf")
    model = replace(run.model, path=path)
    with pytest.raises((ConfigError, ModelError), match=re.escape(reason)):
        refuse_missing(model, run.precision, run.trainer)
    refuse_missing(model, run.precision, run.trainer, is_here=False)  # the other machine may have it


def test_hub_is_asked_later_if_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    refuse_unreachable("nothing/here", None)


def test_folder_without_a_model_is_refused_before_torch(tmp_path: Path) -> None:
    run = build_default_run(model="hf")
    run = replace(run, model=replace(run.model, path=str(tmp_path)))
    with pytest.raises(ModelError, match=r"has no config\.json"):
        refuse_missing(run.model, run.precision, run.trainer)
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    refuse_missing(run.model, run.precision, run.trainer)
