"""Every rule of the monitor has a line in the guide; the names and the numbers in the lines are those of the rules."""

from __future__ import annotations

import re

from fulgurite.config.run import load_options
from fulgurite.config.schema import list_options
from fulgurite.explain.diagnosis import BEFORE, DURING
from fulgurite.explain.knob_index import list_every_knob
from fulgurite.monitor import thresholds as limits
from fulgurite.monitor.rules import RULES as MONITOR
from fulgurite.plan.rules import RULES as PLAN
from fulgurite.plan.thresholds import BF16_GRAIN, LITTLE, MOST_EPOCHS, SHORT

load_options()
TEXTS = [text.template for symptom in (*BEFORE, *DURING) for text in (symptom.seen, symptom.means, symptom.change)]


def test_every_rule_of_the_monitor_is_explained_once() -> None:
    named = [rule for symptom in DURING for rule in symptom.rules]
    assert sorted(named) == sorted(MONITOR.rules)


def test_rules_of_plan_are_there() -> None:
    named = [rule for symptom in BEFORE for rule in symptom.rules]
    assert set(named) <= set(PLAN)
    assert len(named) == len(set(named))


def test_every_parameter_and_option_exists() -> None:
    known = {knob.path for knob in list_every_knob()}
    for name in re.findall(r"`([^`]+)`", " ".join(TEXTS)):
        group, equals, option = name.partition("=")
        assert (option in list_options(group)) if equals else (name in known), name


def test_every_remedy_names_something_to_change() -> None:
    for symptom in (*BEFORE, *DURING):
        words = symptom.change.template
        assert "`" in words or "name" in words, words


def test_the_numbers_are_the_thresholds() -> None:
    all_texts = " ".join(TEXTS)
    assert f"Below {LITTLE} optimizer steps" in all_texts
    assert f"{SHORT} are a good aim" in all_texts
    assert f"Raise `trainer.epochs` to {MOST_EPOCHS}" in all_texts
    assert f"1/{BF16_GRAIN} of a weight" in all_texts
    assert f"The gradient norm is above {limits.NORM:g}." in all_texts
