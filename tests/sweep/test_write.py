"""The files of a sweep, which are generated: fresh, and with the ranges of the declarations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from fulgurite.config.compose import compose
from fulgurite.config.schema import Knob, Range, walk_settings
from fulgurite.errors import ConfigError
from fulgurite.sweep.spaces import SPACES
from fulgurite.sweep.write import build_conf, build_parameter, build_shipped, build_wandb_sweep, main

ROOT = Path(__file__).resolve().parents[2]
DISTRIBUTIONS = {"uniform", "log_uniform_values", "int_uniform", "q_log_uniform_values"}
"""Some of W&B's own list (docs, sweep configuration): those we write."""


def knobs(overrides: list[str]) -> dict[str, tuple[Knob, Any]]:
    run = compose(overrides).run
    return {knob.path: (knob, run) for knob, _ in walk_settings(run)}


def test_shipped_files_are_those_that_are_generated(tmp_path: Path) -> None:
    main(tmp_path / "wandb", tmp_path / "conf")
    for made, shipped_in in (
        (tmp_path / "wandb", ROOT / "sweeps" / "wandb"), (tmp_path / "conf", ROOT / "conf" / "sweep")
    ):
        written = {path.name: path.read_text() for path in made.iterdir()}
        there = {path.name: path.read_text() for path in shipped_in.glob("*.yaml")}
        assert there == written, "run python -m fulgurite.sweep"
        assert set(there) == {f"{name}.yaml" for name in SPACES}
        assert len(there) == 5


@pytest.mark.parametrize("name", SPACES)
def test_ranges_are_the_usual_values(name: str) -> None:
    known = knobs([f"{group}={option}" for group, option in SPACES[name].choices.items()])
    for path, spec in yaml.safe_load(build_shipped(name))["parameters"].items():
        knob, run = known[path]
        usual = knob.find_usual(run)
        if isinstance(usual, Range):
            assert (spec["min"], spec["max"]) == (usual.low, usual.high)
        else:
            assert spec["values"] == list(usual or ())


@pytest.mark.parametrize("name", SPACES)
def test_sweep_has_the_keys_that_wandb_needs(name: str) -> None:
    """wandb checks a sweep on its server; what its documentation demands is checked here."""
    spec = yaml.safe_load(build_shipped(name))
    assert spec["method"] in {"random", "grid", "bayes"}
    assert set(spec["metric"]) == {"name", "goal"}
    assert spec["metric"]["goal"] in {"minimize", "maximize"}
    assert spec["parameters"]
    for parameters in spec["parameters"].values():
        if "values" in parameters:
            assert set(parameters) == {"values"}
            continue
        assert parameters["distribution"] in DISTRIBUTIONS
        assert parameters["min"] < parameters["max"]
        assert parameters["distribution"] != "log_uniform_values" or parameters["min"] > 0


@pytest.mark.parametrize("name", SPACES)
def test_command_of_the_wandb_agent_composes(name: str) -> None:
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    spec = yaml.safe_load(build_shipped(name))
    drawn = {k: {"value": p["values"][0] if "values" in p else p["min"]} for k, p in spec["parameters"].items()}
    words = create_sweep_command(spec["command"])
    place = words.index("${args_no_hyphens}")
    words[place:] = create_sweep_command_args({"args": drawn})["args_no_hyphens"]
    assert words[:2] == ["fulgurite", "train"]
    composed = compose(words[2:])
    values = {knob.path: value for knob, value in walk_settings(composed.run)}
    assert {k: values[k] for k in drawn} == {k: v["value"] for k, v in drawn.items()}
    assert "wandb" in composed.run.logger
    assert composed.warnings == []


def test_range_of_the_rate_depends_on_the_run() -> None:
    small = yaml.safe_load(build_wandb_sweep(["method=lora"], ["optim.lr"]))["parameters"]["optim.lr"]
    full = yaml.safe_load(build_wandb_sweep(["method=full"], ["optim.lr"]))["parameters"]["optim.lr"]
    assert small["distribution"] == full["distribution"] == "log_uniform_values"
    assert full["min"] < small["min"]


@pytest.mark.parametrize(("kind", "usual", "expected"), [
    (float, Range(0.0, 0.1), {"distribution": "uniform", "min": 0.0, "max": 0.1}),
    (float, Range(0.5, 3.0), {"distribution": "uniform", "min": 0.5, "max": 3.0}),
    (float, Range(1e-5, 1e-3), {"distribution": "log_uniform_values", "min": 1e-5, "max": 1e-3}),
    (int, Range(1, 5), {"distribution": "int_uniform", "min": 1, "max": 5}),
    (int, Range(10, 1000), {"distribution": "q_log_uniform_values", "q": 1, "min": 10, "max": 1000}),
    (int, (8, 16), {"values": [8, 16]}),
])
def test_parameter_of_each_kind(kind: type, usual: Any, expected: dict[str, Any]) -> None:
    knob = Knob("x", kind, 1, "m", "s", None, usual, "", None)
    assert build_parameter(knob, usual) == expected


def test_parameter_without_usual_values_or_unknown_is_refused() -> None:
    with pytest.raises(ConfigError, match="has no usual range"):
        build_wandb_sweep([], ["model.attention"])
    with pytest.raises(ConfigError, match=r"optim\.rate is not a parameter"):
        build_wandb_sweep([], ["optim.rate"])


def test_our_file_names_the_parameters_and_no_ranges() -> None:
    text = build_conf("dpo_lora")
    lines = text.splitlines()
    assert lines[0] == "# @package _global_"
    assert "fulgurite train -m +sweep=dpo_lora" in text
    body = yaml.safe_load(text)
    assert {"override /stage": "dpo"} in body["defaults"]
    assert body["sweep"] == {
        "knobs": list(SPACES["dpo_lora"].knobs), "metric": "val/accuracy", "goal": "maximize",
    }
    assert yaml.safe_load(build_conf("sft_lora"))["sweep"] == {"knobs": list(SPACES["sft_lora"].knobs)}
