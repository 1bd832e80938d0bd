"""The reference: every group, option and parameter, folded, each number with its bar."""

from __future__ import annotations

import re

import pytest

from fulgurite.config.run import load_options
from fulgurite.config.schema import Range, list_options
from fulgurite.explain import page_reference as reference
from fulgurite.explain.knob_index import list_contexts, list_every_knob, merge_knobs
from fulgurite.explain.layout import format_value
from fulgurite.explain.pages import list_all_groups
from fulgurite.language import use_language
from fulgurite.stage.preference_table import list_names

load_options()
SHARED = merge_knobs(list_every_knob())


def find(path: str, option: str = "") -> reference.Shared:
    return next(s for s in SHARED if s.knob.path == path and (not option or option in s.options))


def test_every_group_is_folded_and_has_its_title() -> None:
    page = reference.build_reference()
    assert re.findall(r'<details class="hit group" id="(\w+)"', page) == [*list_all_groups(), "run"]
    assert "<h3>Learning rate schedule <code>scheduler</code></h3>" in page
    assert all(f"dpo: {loss}" in page for loss in list_names())
    with use_language("zh"):
        assert "<h3>学习率调节器 <code>scheduler</code></h3>" in reference.build_group("scheduler")


def test_a_parameter_has_title_value_badge_and_other_names() -> None:
    card = reference.build_knob(find("optim.lr"), anchored=True)
    assert card.startswith('<details class="hit knob" id="optim.lr" data-names="')
    assert "<b>Learning rate</b> <code>optim.lr</code>" in card
    assert 'class="badge measured"' in card, "the default run's 1e-3 was measured, whatever the table's source"
    assert "<code>learning_rate</code>" in card
    assert '<a href="#method.alpha">method.alpha</a>: alpha / rank' in card
    assert " id=" not in reference.build_knob(find("optim.lr"), anchored=False).partition(">")[0]


@pytest.mark.parametrize("shared", SHARED, ids=lambda s: f"{s.knob.path}-{s.options[0]}")
def test_every_number_with_a_usual_range_has_a_bar(shared: reference.Shared) -> None:
    knob = shared.knob
    usual = knob.usual
    card = reference.build_knob(shared, anchored=True)
    if isinstance(usual, Range):
        assert 'class="usual"' in card
    if isinstance(knob.default, float | int) and not isinstance(knob.default, bool) and usual:
        assert f">{format_value(knob.default)}</text>" in card


def test_contexts_are_a_table_whose_rows_agree_with_the_rules() -> None:
    knob = find("optim.lr", "adamw").knob
    card = reference.build_knob(find("optim.lr", "adamw"), anchored=True)
    assert card.count("<tr>") == 1 + len({(c.stage, c.method) for c in list_contexts(knob)})
    assert "<th>135M</th>" in card
    for context in list_contexts(knob):
        assert context.derived is not None
        assert f"<b>{format_value(context.derived.value)}</b>" in card


def test_reasons_of_empty_values_are_given_if_they_are_translated() -> None:
    card = reference.build_knob(find("trainer.epochs"), anchored=True)
    assert "In the default run: two passes" in card


def test_options_have_costs_and_misreadings() -> None:
    group = reference.build_group("stage")
    assert 'id="stage=dpo"' in group
    assert 'class="wrong"' in group
    assert all(f'id="stage={name}"' in group for name in list_options("stage"))
