"""The chapters come in order, link into the reference, and take their texts from the declarations."""

from __future__ import annotations

import re

from fulgurite.config.run import load_options
from fulgurite.config.schema import list_options
from fulgurite.explain import page_chapters as chapters
from fulgurite.explain.diagnosis import BEFORE, DURING
from fulgurite.explain.knob_index import list_every_knob
from fulgurite.explain.pages import get_knob_text
from fulgurite.language import use_language

load_options()


def test_the_chapters_come_in_order() -> None:
    page = chapters.build_chapters()
    assert re.findall(r'<section id="(\w+)"', page) == ["choose", "train", "diagnose", "change", "mistakes"]
    assert page.count('class="hit symptom"') == len(BEFORE) + len(DURING)


def test_chapters_name_options_and_parameters_that_exist() -> None:
    paths = {knob.path for knob in list_every_knob()}
    assert set(chapters.STAGES) == set(list_options("stage"))
    assert set(chapters.METHODS) <= set(list_options("method"))
    assert set(chapters.MATTER) <= paths


def test_every_parameter_that_matters_says_when_to_move_it() -> None:
    page = chapters.build_chapters()
    declared = {knob.path: knob for knob in list_every_knob()}
    for path in chapters.MATTER:
        assert f'href="#{path}"' in page
        assert get_knob_text(declared[path], "raise_when")
        assert get_knob_text(declared[path], "lower_when")


def test_code_that_names_a_parameter_is_a_link() -> None:
    linked = chapters.link_code("<code>optim.lr</code> <code>method=qlora</code> <code>no.such</code>")
    assert linked.startswith('<a href="#optim.lr"><code>optim.lr</code></a> <a href="#method=qlora">')
    assert linked.endswith(" <code>no.such</code>")


def test_misreadings_are_gathered() -> None:
    page = chapters.build_misreadings()
    assert "It is not differential privacy" in page
    assert page.count("<li>") == sum(bool(k.misread) for k in _list_merged()) + sum(
        bool(cls.misread) for group in chapters.list_all_groups() for cls in list_options(group).values()
    )
    with use_language("zh"):
        assert "直接偏好优化" in chapters.build_misreadings()


def _list_merged() -> list:  # type: ignore[type-arg]
    return [shared.knob for shared in chapters.merge_knobs(list_every_knob())]
