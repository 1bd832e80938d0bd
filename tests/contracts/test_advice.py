"""Advice, presets, sweeps and rules agree: what one recommends, no other calls unusual."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from tests.plan.facts import build_facts

from fulgurite.config.run import load_options
from fulgurite.config.schema import Knob, Range, Usual
from fulgurite.explain.choices import Preset, list_presets
from fulgurite.explain.knob_index import list_contexts, list_every_knob
from fulgurite.plan.rules import UNUSUAL, find_troubles
from fulgurite.plan.value_check import find_value_troubles
from fulgurite.sweep.search import find_knob
from fulgurite.sweep.spaces import SPACES, Span, build_space

load_options()
JUDGES_VALUES = (UNUSUAL, "rate.", "loss.beta-band", "lora.scale-pinned", "optim.muon-rate")
NUMBER = r"(\d[\d,]*(?:\.\d+)?(?:e-?\d+)?)"
RECOMMENDED = re.compile(rf": {NUMBER}(?: (?:to|or) {NUMBER})?(?=[.;](?:\s|$))")
"""A value behind a colon, at the end of a piece of advice: `for new knowledge: 64 to 256.`"""
RUN_PRESETS = [p for p in list_presets() if p.group not in ("sweep", "data", "model", "find", "callback", "logger")]


def _describe(preset: Preset) -> str:
    return f"{preset.group}={preset.name}"


@pytest.mark.parametrize("preset", RUN_PRESETS, ids=_describe)
def test_no_rule_about_values_objects_to_a_preset(preset: Preset) -> None:
    plus = "+" if preset.group == "experiment" else ""
    base = ["method=full"] if preset.group == "optim" else []
    found = find_troubles(build_facts(*base, f"{plus}{preset.group}={preset.name}"))
    assert [trouble for trouble in found if trouble.rule.startswith(JUDGES_VALUES)] == []


@pytest.mark.parametrize("space", SPACES)
def test_no_rule_objects_to_what_a_sweep_draws(space: str) -> None:
    choices = [f"{group}={name}" for group, name in SPACES[space].choices.items()]
    from fulgurite.config.compose import compose
    from fulgurite.config.schema import walk_settings

    run = compose(choices).run
    for name in SPACES[space].knobs:
        knob = find_knob(walk_settings(run), run.stage.name, name)
        drawn = build_space(knob, knob.find_usual(run))
        ends = (drawn.low, drawn.high) if isinstance(drawn, Span) else (drawn.values[0], drawn.values[-1])
        for end in ends:
            found = find_value_troubles([f"{name}={end}", *choices])
            assert [trouble for trouble in found if trouble.rule.startswith(JUDGES_VALUES)] == [], (name, end)


def _list_recommended(knob: Knob) -> Iterator[tuple[str, float]]:
    for field in ("raise_when", "lower_when"):
        for found in RECOMMENDED.finditer(getattr(knob, field)):
            yield from ((field, float(text.replace(",", ""))) for text in found.groups() if text)


def _has(usual: Usual | None, value: float) -> bool:
    if isinstance(usual, Range):
        return usual.has(value)
    numbers = [item for item in usual or () if isinstance(item, int | float)]
    return not numbers or min(numbers) <= value <= max(numbers)


def test_values_that_advice_recommends_are_usual() -> None:
    checked, outside = 0, []
    for knob in list_every_knob():
        for field, value in _list_recommended(knob):
            usual = [c.usual for c in list_contexts(knob)] if callable(knob.usual) else [knob.usual]
            bounded = knob.bounds is not None and knob.bounds.has(value) if usual == [None] else True
            checked += 1
            if not bounded or not any(_has(span, value) for span in usual):
                outside.append((knob.path, knob.option, field, value))
    assert outside == []
    assert checked > 30
