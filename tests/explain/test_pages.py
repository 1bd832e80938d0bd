"""What a person reads: every knob, option and group has a page, and it says what its declaration says."""

from __future__ import annotations

import re

import pytest

from fulgurite.config.schema import Knob, describe_kind, list_options
from fulgurite.explain import build_knob_page, build_option_page, build_overview
from fulgurite.explain import knob_index as entries
from fulgurite.explain.knob_index import list_every_knob
from fulgurite.explain.layout import format_usual, format_value
from fulgurite.explain.pages import build_group_page, format_source, list_all_groups, list_choices
from fulgurite.explain.search import parse_question
from fulgurite.language.current import use_language
from fulgurite.optim import default_lrs as rates
from fulgurite.text.layout import count_cells

KNOBS = entries.list_every_knob()
ADDRESS = re.compile(r"(  [a-z ]+)? {2,}[(\"]?https?://\S+")


def knobs_called(name: str) -> tuple[Knob, ...]:
    return parse_question(name).knobs


def said(page: str) -> str:
    """The page on one line, so that wrapping does not matter."""
    return " ".join(page.split())


@pytest.mark.parametrize("path", sorted({k.path for k in KNOBS}))
def test_every_knob_has_a_page_that_says_all_of_its_declaration(path: str) -> None:
    declared = [k for k in KNOBS if k.path == path]
    page = build_knob_page(declared)
    assert page.startswith(f"{path} = ")
    for knob in declared:
        told = [knob.meaning, knob.source, knob.advice, describe_kind(knob), knob.empty.words if knob.empty else ""]
        for text in told:
            assert said(text) in said(page)
        assert format_value(knob.default) in page
    for line in page.splitlines():
        # an address cannot be broken: a line is wider than 80 columns only if it is one alone, beside its label
        assert count_cells(line) <= 80 or ADDRESS.fullmatch(line), line


@pytest.mark.parametrize("group", list_all_groups())
def test_every_group_lists_its_options_and_knobs(group: str) -> None:
    page = build_group_page(group)
    assert page.startswith(group)
    names = list_choices(group)
    assert all(re.search(rf"^  {name}\b", page, re.M) for name in names)
    mine = {k.path for k in KNOBS if k.group.partition(".")[0] == group}
    assert all(path in page for path in mine)
    assert names or mine


@pytest.mark.parametrize(("group", "name"), [(g, n) for g in list_all_groups() for n in list_choices(g)])
def test_every_option_has_a_page(group: str, name: str) -> None:
    page = build_option_page(group, name)
    assert page.startswith(f"{group}={name}")
    added = {"sweep": "-m +", "find": "+", "experiment": "+"}.get(group, "")  # Hydra refuses these without the plus
    assert f"fulgurite train {added}{group}={name}" in page
    if name in list_options(group):
        doc = list_options(group)[name].__doc__  # type: ignore[union-attr]
        assert said(doc or "") in said(page)


def test_pages_are_counted() -> None:
    assert len(KNOBS) > 60
    assert sum(len(list_choices(g)) for g in list_all_groups()) > 30


def test_the_overview_names_every_group_and_marks_the_defaults() -> None:
    page = build_overview()
    assert all(re.search(rf"^  {group}\b", page, re.M) for group in list_all_groups())
    assert "lora (default)" in page
    assert "seed" in page


def test_the_rate_is_shown_for_each_stage_and_method() -> None:
    page = build_knob_page(knobs_called("optim.lr"))
    row = rates.TABLE["sft", "lora"]
    line = next(line for line in page.splitlines() if re.search(r"sft +.*lora", line))
    # the bundled 135M model is in the smallest class; an unknown size counts as 7B, the third
    assert line.split()[-8:] == [
        format_value(row[0].value), *format_usual(row[0].usual).split(), format_value(row[2].value),
        *format_usual(row[2].usual).split(),
    ]
    assert "optim=adamw" in page
    assert f"which is {format_value(row[0].value)} in the default run" in page


def test_a_derived_default_comes_with_its_reason() -> None:
    assert "= empty, which is 128 in the default run" in build_knob_page(knobs_called("method.alpha"))
    assert "twice the rank of 64" in said(build_knob_page(knobs_called("method.alpha")))


def test_equal_declarations_are_one_page_and_different_ones_two() -> None:
    assert build_knob_page(knobs_called("optim.lr")).count("optim.lr = ") == 1
    both = build_knob_page(knobs_called("scheduler.min_ratio"))
    assert "scheduler.min_ratio = 0.1" in both
    assert "scheduler.min_ratio = 0\n" in both
    assert "scheduler=warmup_stable_decay" in both


def test_schedules_say_which_others_are_the_same_curve() -> None:
    page = said(build_option_page("scheduler", "cosine_with_restarts"))
    assert "scheduler.cycles=1 is the same curve as scheduler=cosine, exactly." in page


def test_compute_types_say_what_is_held_in_which_type() -> None:
    assert re.search(r"frozen weights +bfloat16", build_option_page("precision", "bf16"))
    assert re.search(r"^pure_bf16( +bfloat16){5}$", build_group_page("precision"), re.M)


def test_a_group_names_what_it_does_not_offer() -> None:
    text = " ".join(build_group_page("strategy").split())
    assert "Not offered: DeepSpeed." in text
    assert "stages 1 and 2 are strategy.reshard=false" in text


def test_sources_are_in_chinese_where_the_words_are_ours() -> None:
    assert format_source("Ours; peft docs, LoraConfig") == "Ours; peft docs, LoraConfig"
    with use_language("zh"):
        assert format_source("Ours; peft docs, LoraConfig") == "本项目自定; peft 文档, LoraConfig"
        assert format_source("transformers' default (verified)").endswith("（已核对原文）")


def test_rate_table_of_a_narrow_terminal_has_one_size_below_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fulgurite.explain.pages.measure_width", lambda: 60)
    page = build_knob_page([knob for knob in list_every_knob() if knob.path == "optim.lr"][:1])
    lines = page.splitlines()
    assert max(len(line) for line in lines if "https://" not in line) <= 60
    assert sum("stage  method" in line for line in lines) == 2
