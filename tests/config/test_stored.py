"""The typed run of a stored config.yaml, of this version or an earlier one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fulgurite.config.compose import compose
from fulgurite.config.frozen import FrozenConfigError
from fulgurite.config.guard import Allowed
from fulgurite.config.provenance import to_plain
from fulgurite.config.schema import list_options
from fulgurite.config.stored import add_defaults, add_strategy, rebuild_run
from fulgurite.errors import ConfigError, RequestError
from fulgurite.run.folder import read_config, write_run
from fulgurite.run.stored_words import restore_words


def test_a_stored_config_does_not_read_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "hunter2")
    write_run(tmp_path, compose(["model=hf", "model.path=somewhere", "stage.prompts=[something]"]))
    file = tmp_path / "config.yaml"
    file.write_text(file.read_text().replace("somewhere", "${oc.env:A_SECRET}"))
    assert rebuild_run(read_config(tmp_path)).model.path == "${oc.env:A_SECRET}"
    file.write_text(file.read_text().replace("something", "${x"))
    with pytest.raises(RequestError, match=r"config\.yaml cannot be read"):
        read_config(tmp_path)


def test_relative_paths_of_an_earlier_version_become_absolute(here: Path) -> None:
    """Its config.yaml has relative paths, as they were typed in this folder."""
    words = ["model=hf", "model.path=base", "data=file", "data.path=mine.jsonl"]
    composed = compose(words)
    run = here / "run"
    run.mkdir()
    write_run(run, composed)
    for file in ("config.yaml", "provenance.json"):
        (run / file).write_text((run / file).read_text().replace(f"{here}/", ""))
    assert read_config(run) == composed.dump_config()
    assert restore_words([f"resume.run={run}"]) == [*words, f"resume.run={run}"]
    assert to_plain(compose(restore_words([f"resume.run={run}"])).run.data) == to_plain(composed.run.data)


@pytest.mark.parametrize(("option", "strategy", "accelerator", "devices"), [
    ("auto", "auto", "auto", 1), ("cpu", "auto", "cpu", 1), ("ddp_cpu", "ddp", "cpu", 2),
])
def test_an_earlier_trainer_becomes_a_trainer_and_a_strategy(
    option: str, strategy: str, accelerator: str, devices: int
) -> None:
    found = add_strategy({"trainer": {"option": option, "processes": devices, "epochs": 3.0}, "seed": 1})
    trainer = found["trainer"]
    assert found["strategy"] == {"option": strategy}
    assert (trainer["accelerator"], trainer["devices"], trainer["num_nodes"]) == (accelerator, devices, 1)
    assert (trainer["option"], trainer["epochs"], "processes" in trainer) == ("default", 3.0, False)


@pytest.mark.parametrize("config", [{}, {"trainer": None},
    {"trainer": {"option": "default"}, "strategy": {"option": "ddp"}}])
def test_a_config_with_a_strategy_stays(config: dict[str, Any]) -> None:
    assert add_strategy(config) is config


def test_parameters_that_an_earlier_version_did_not_have_get_their_defaults() -> None:
    found = add_defaults({"optim": {"option": "adamw", "lr": 0.5}, "method": {"option": "unknown"}, "seed": 1})
    assert found["optim"]["lr"] == 0.5
    assert found["optim"]["eps"] == list_options("optim")["adamw"]().eps  # type: ignore[attr-defined]
    assert (found["method"], found["seed"]) == ({"option": "unknown"}, 1)


def test_a_stored_run_is_rebuilt_as_it_was_and_frozen() -> None:
    run = compose(["method=lora", "method.rank=8", "logger=csv", "trainer.early_stopping_patience=2"]).run
    again = rebuild_run(to_plain(run))
    assert again == run
    with pytest.raises(FrozenConfigError):
        again.seed = 3


def test_a_stored_config_imports_no_plugin_and_trusts_no_code(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = to_plain(compose(["model=hf", "model.path=owner/name"]).run)
    config["plugins"] = ["a_plugin_that_nobody_allowed"]
    config["model"] |= {"trust_remote_code": True, "revision": "sha256:0a"}
    run = rebuild_run(config, folder=tmp_path)
    assert (run.plugins, run.model.trust_remote_code, run.model.revision) == ([], False, None)
    shown = capsys.readouterr()
    told = shown.out + shown.err
    assert f"{tmp_path}/config.yaml asks for plugins=[a_plugin_that_nobody_allowed], which was not imported" in told
    assert f"{tmp_path}/config.yaml lets the code in owner/name run" in told
    allowed = rebuild_run(config, Allowed(model_code=True, revision="0b"), tmp_path)
    assert (allowed.model.trust_remote_code, allowed.model.revision) == (True, "0b")


def test_an_option_that_there_is_not_is_one_sentence() -> None:
    config = to_plain(compose().run)
    config["optim"] = {"option": "magic"}
    with pytest.raises(ConfigError, match=r"The run's config\.yaml cannot be read by this version: 'magic'"):
        rebuild_run(config)
