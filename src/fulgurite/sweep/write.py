"""Writes conf/sweep/*.yaml and sweeps/wandb/*.yaml from the list of spaces: `python -m fulgurite.sweep`.

Ours name only knobs, whose ranges are asked for when a search begins; W&B's carry the ranges, for it does not know
the knobs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from fulgurite.config.compose import compose
from fulgurite.config.schema import Knob, Usual, walk_settings
from fulgurite.sweep.spaces import SPACES, Values, build_space, find_knob

HEAD = """\
# {name}: a W&B sweep over the usual ranges of {choices}. Random search of 30 runs shows which parameter matters.
#   wandb sweep {place}      prints an id; then on each machine:   wandb agent <id>
# Generated from the knobs' declarations by `python -m fulgurite.sweep`; do not edit.
"""

OURS = """\
# @package _global_
# {summary}
# fulgurite train -m +sweep={name} searches each knob over its usual values.
# Generated from src/fulgurite/sweep/spaces.py by `python -m fulgurite.sweep`; do not edit.
"""


def build_conf(name: str) -> str:
    """The text of conf/sweep/`name`.yaml."""
    space = SPACES[name]
    chosen = [{f"override /{group}": option} for group, option in space.choices.items()]
    body: dict[str, Any] = {
        "defaults": [*chosen, {"override /hydra/sweeper": "fulgurite"}],
        "sweep": {"knobs": list(space.knobs)},
    }
    if space.metric != "val/loss":
        body["sweep"] |= {"metric": space.metric, "goal": space.goal}
    return OURS.format(summary=space.summary, name=name) + str(yaml.safe_dump(body, sort_keys=False))


def build_shipped(name: str) -> str:
    """The text of sweeps/wandb/`name`.yaml."""
    space = SPACES[name]
    overrides = [f"{group}={option}" for group, option in space.choices.items()]
    head = HEAD.format(name=name, choices=" ".join(overrides), place=f"sweeps/wandb/{name}.yaml")
    return head + build_wandb_sweep(overrides, space.knobs, space.metric, space.goal)


def build_wandb_sweep(
    overrides: Sequence[str], knobs: Sequence[str], metric: str = "val/loss", goal: str = "minimize"
) -> str:
    """YAML of a W&B sweep that runs `fulgurite train *overrides` over `knobs`.

    Raises ConfigError for a knob that the run does not have, or that has no `usual`.
    """
    run = compose(overrides).run
    searched = [find_knob(walk_settings(run), run.stage.name, name) for name in knobs]
    spec = {
        "program": "fulgurite",
        "command": ["fulgurite", "train", *overrides, "logger=wandb", "${args_no_hyphens}"],
        "method": "random",
        "run_cap": 30,
        "metric": {"name": metric, "goal": goal},
        "parameters": {knob.path: build_parameter(knob, knob.find_usual(run)) for knob in searched},
    }
    return str(yaml.safe_dump(spec, sort_keys=False))


def build_parameter(knob: Knob, usual: Usual | None) -> dict[str, Any]:
    """A knob's usual values as a W&B parameter."""
    drawn = build_space(knob, usual)
    if isinstance(drawn, Values):
        return {"values": list(drawn.values)}
    if drawn.whole:
        kind = {"distribution": "q_log_uniform_values", "q": 1} if drawn.log else {"distribution": "int_uniform"}
        return {**kind, "min": int(drawn.low), "max": int(drawn.high)}
    return {
        "distribution": "log_uniform_values" if drawn.log else "uniform",
        "min": float(drawn.low),
        "max": float(drawn.high),
    }


def main(wandb: Path = Path("sweeps/wandb"), conf: Path = Path("conf/sweep")) -> None:
    """Write every space's two files."""
    for folder, text in ((wandb, build_shipped), (conf, build_conf)):
        folder.mkdir(parents=True, exist_ok=True)
        for name in SPACES:
            (folder / f"{name}.yaml").write_text(text(name), encoding="utf-8")
