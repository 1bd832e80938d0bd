"""Which other options would be refused in this run, and why: the page dims them."""

from __future__ import annotations

import dataclasses
from typing import Any

from fulgurite.config.run import RunConfig, load_options
from fulgurite.config.schema import list_options
from fulgurite.explain.choices import list_presets

GROUPS = ("method", "optim", "scheduler", "precision", "privacy")
"""The groups whose options the page explains beside each other."""


def find_unfit(run: RunConfig) -> dict[str, dict[str, str]]:
    """Returns, for each group, the options that cannot replace the run's own, with the sentence of the refusal.

    Only options are asked; what depends on the data or the device is a finding of the plan.
    """
    load_options()
    found: dict[str, dict[str, str]] = {}

    def find_reason(group: str, name: str) -> str:
        if name == getattr(run, group).name:
            return ""
        changes: dict[str, Any] = {group: list_options(group)[name]()}
        other = dataclasses.replace(run, **changes)
        refusals = (option.find_refusal(other) for option in other.list_options())
        return next((str(sentence) for sentence in refusals if sentence is not None), "")

    for group in GROUPS:
        reasons = {name: reason for name in list_options(group) if (reason := find_reason(group, name))}
        # a preset is an option with other values, and goes with the same partners
        reasons |= {p.name: reasons[p.base] for p in list_presets(group) if p.base in reasons}
        if reasons:
            found[group] = reasons
    return found

