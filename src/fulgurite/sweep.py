"""W&B sweeps written from the knobs' declarations: their ranges are `usual`, so that none is stated twice.

`python -m fulgurite.sweep` writes sweeps/wandb/*.yaml anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from fulgurite.compose import compose
from fulgurite.errors import ConfigError
from fulgurite.run import RunConfig
from fulgurite.schema import Knob, Range, bare, settings

SHIPPED: dict[str, tuple[list[str], list[str]]] = {
    "sft_lora": (
        ["stage=sft", "method=lora"],
        ["optim.lr", "method.rank", "method.dropout", "scheduler.warmup_ratio", "trainer.batch_size"],
    ),
}
"""For each shipped sweep: the choices that are fixed, and the knobs that are searched, the most telling first."""

HEAD = """\
# {name}: a W&B sweep over the usual ranges of {choices}. Random search of 30 runs tells which knob matters.
#   wandb sweep {place}      prints an id; then on each machine:   wandb agent <id>
# Generated from the knobs' declarations by `python -m fulgurite.sweep`; do not edit.
"""


def wandb_sweep(overrides: Sequence[str], knobs: Sequence[str], metric: str = "val/loss") -> str:
    """YAML of a W&B sweep that runs `fulgurite train *overrides` over `knobs`, minimising `metric`.

    Raises ConfigError for a knob that the run does not have, or that has no `usual`.
    """
    run = compose(overrides).run
    spec = {
        "program": "fulgurite",
        "command": ["fulgurite", "train", *overrides, "logger=wandb", "${args_no_hyphens}"],
        "method": "random",
        "run_cap": 30,
        "metric": {"name": metric, "goal": "minimize"},
        "parameters": {name: parameter(_knob(run, name), run) for name in knobs},
    }
    return str(yaml.safe_dump(spec, sort_keys=False))


def parameter(knob: Knob, run: RunConfig) -> dict[str, Any]:
    """A knob's usual values as a W&B parameter: a list as it is; a range evenly, or by logarithm where it spans ten."""
    usual = knob.usual_for(run)
    if isinstance(usual, tuple):
        return {"values": list(usual)}
    if not isinstance(usual, Range) or usual.low is None or usual.high is None:
        raise ConfigError(f"{knob.path} has no usual range to sweep over; leave it out, or declare its usual.")
    low, high, whole = usual.low, usual.high, bare(knob.type) is int
    spans = low > 0 and high / low >= 10
    if whole:
        kind = {"distribution": "q_log_uniform_values", "q": 1} if spans else {"distribution": "int_uniform"}
        return {**kind, "min": int(low), "max": int(high)}
    return {"distribution": "log_uniform_values" if spans else "uniform", "min": float(low), "max": float(high)}


def shipped(name: str) -> str:
    """The text of sweeps/wandb/`name`.yaml."""
    overrides, knobs = SHIPPED[name]
    head = HEAD.format(name=name, choices=" ".join(overrides), place=f"sweeps/wandb/{name}.yaml")
    return head + wandb_sweep(overrides, knobs)


def _knob(run: RunConfig, name: str) -> Knob:
    for knob, _ in settings(run):
        if knob.path == name:
            return knob
    word = name.rpartition(".")[2]
    raise ConfigError(f"{name} is not a knob of this run; `fulgurite explain --search {word}` looks for it.")


def main(folder: Path = Path("sweeps/wandb")) -> None:
    """Write every shipped sweep into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in SHIPPED:
        (folder / f"{name}.yaml").write_text(shipped(name), encoding="utf-8")


if __name__ == "__main__":
    main()
