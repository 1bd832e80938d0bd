"""What a person reads: every knob, option and group has a page, and it says what its declaration says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fulgurite.cli.explain import explain_main
from fulgurite.config import compose
from fulgurite.config.schema import Knob, Range, describe_kind, list_options
from fulgurite.errors import ConfigError, RequestError
from fulgurite.explain import build_knob_page, build_option_page, build_overview, choices, search
from fulgurite.explain import knob_index as entries
from fulgurite.explain.layout import format_usual, format_value
from fulgurite.explain.pages import build_group_page, list_all_groups, list_choices
from fulgurite.explain.search import parse_question
from fulgurite.optim import default_lrs as rates
from fulgurite.text.layout import format_labels, format_table

KNOBS = entries.list_every_knob()


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
    assert max(map(len, page.splitlines())) <= 80


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
        format_value(row.rates[0]), *format_usual(row.usual_small).split(), format_value(row.rates[2]),
        *format_usual(row.usual_large).split(),
    ]
    assert "optim=adamw" in page
    assert f"which is {format_value(row.rates[0])} in the default run" in page


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


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "empty"), (True, "true"), (0.0005, "5e-4"), (1e-07, "1e-7"), (0.05, "0.05"), (2.0, "2"), (1, "1"),
        ([0.9, 0.999], "[0.9, 0.999]"), ("", "''"), ({}, "{}"), (2.5e-5, "2.5e-5"), (1e6, "1000000"),
        (float("inf"), "inf"),
    ],
)
def test_values_are_written_as_one_types_them(value: object, words: str) -> None:
    assert format_value(value) == words


def test_ranges_and_lists_in_words() -> None:
    assert format_usual(Range(1e-5, 1e-3)) == "1e-5 to 1e-3"
    assert format_usual(Range(0, 1, open_low=True)) == "0 to 1, 0 excluded"
    assert format_usual((8, 16, 32)) == "8, 16 or 32"
    assert format_usual((1024,)) == "1024"


def test_columns_wrap_beside_their_label() -> None:
    assert format_labels([("a", "one two three"), ("bcd", "")], 14) == "  a    one two\n       three\n  bcd"
    assert format_table(["x", "yy"], [["100", "1"]]) == "x    yy\n100  1"


def test_search_finds_names_before_texts_and_needs_every_word() -> None:
    lines = search("warmup").splitlines()
    assert lines[0].startswith("scheduler.warmup_ratio")
    assert "scheduler=inverse_sqrt" in "\n".join(lines)
    assert search("adapter rank").startswith("method.rank")
    with pytest.raises(ConfigError, match="No knob or option speaks of 'xyzzy'"):
        search("xyzzy")
    with pytest.raises(ConfigError):
        search("  ")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["optim.lrr"], "No knob, group or option is called optim.lrr. Did you mean optim.lr"),
        (["method=qlorra"], "method has no option 'qlorra'. Did you mean"),
        (["cosin"], "Did you mean scheduler=cosine"),
        (["method="], "method has no option ''. There are full, freeze, layerwise, lora, qlora"),
        (["zzzzzz"], "Try `fulgurite explain --search zzzzzz`"),
        (["resume=x"], "resume has no options"),
        (["method", "--plot"], "--plot draws schedules and preference losses"),
        (["scheduler=cosine", "scheduler.cycles=3", "--plot"], "scheduler=cosine has no knob scheduler.cycles"),
        (["scheduler=cosine_with_restarts", "scheduler.cycles=0", "--plot"], "scheduler.cycles=0 is not allowed"),
        (["scheduler=cosine_with_restarts", "scheduler.cycles=a", "--plot"], "scheduler.cycles=a is not a whole"),
        (["scheduler=polynomial", "scheduler.lr_end=1", "--plot"], "scheduler.lr_end=1 must lie below optim.lr"),
    ],
)
def test_what_cannot_be_answered_is_one_sentence_with_a_way_on(words: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        explain_main(words)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_unknown_flag_is_a_wrong_request() -> None:
    with pytest.raises(RequestError, match="has no flag --foo"):
        explain_main(["--foo"])


@pytest.mark.parametrize(
    ("words", "begins"),
    [
        ([], "A run is one choice a group"),
        (["optim.lr"], "optim.lr = "), (["lr"], "optim.lr = "), (["method"], "method: "),
        (["method=lora"], "method=lora"), (["lora"], "method=lora"), (["optim.lr=1e-4"], "optim.lr = "),
        (["--search", "warmup"], "scheduler.warmup_ratio"), (["scheduler=cosine", "--plot"], "scheduler=cosine: "),
        (["logger.wandb.wait"], "logger.wandb.wait = 5"), (["seed", "name"], "seed = 42"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_the_command_prints_what_was_asked(words: list[str], begins: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain_main(words) == 0
    assert capsys.readouterr().out.startswith(begins)


def test_a_plot_takes_knobs_steps_and_rate(capsys: pytest.CaptureFixture[str]) -> None:
    explain_main(["scheduler=linear", "--plot", "trainer.max_steps=40", "optim.lr=2e-3", "scheduler.warmup_steps=10"])
    out = capsys.readouterr().out
    assert "step 40" in out
    assert "2e-3 ┤" in out
    assert "warmup ends at step 10" in out


def test_all_schedules_are_drawn_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    explain_main(["scheduler", "--plot"])
    out = capsys.readouterr().out
    assert all(f"scheduler={name}:" in out for name in list_options("scheduler"))


def test_presets_are_options_told_by_their_first_line_and_their_differences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train.yaml").write_text("defaults:\n  - _self_\n  - method: lora\n  - model: smollm2_135m\n")
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "wide.yaml").write_text(
        "# LoRA with a wide adapter. Take it for new knowledge.\n# More.\n"
        "defaults:\n  - lora\n  - _self_\nrank: 256\ndropout: 0.05\n"
    )
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "small.yaml").write_text("# @package _global_\n# A small one.\noptim:\n  lr: 1e-4\n")
    monkeypatch.setattr(choices, "find_conf_dir", lambda: tmp_path)
    caches = (choices.list_presets, choices.read_default_options, choices._read_presets, choices._read_defaults)
    for kept in caches:
        kept.cache_clear()
    try:
        page = build_option_page("method", "wide")
        assert "LoRA with a wide adapter. Take it for new knowledge." in page
        assert "method=lora with:" in page
        assert re.search(r"method\.rank +256", page)
        assert "wide" in build_group_page("method")
        assert "method=wide" in search("wide adapter")
        assert "A small one." in build_option_page("experiment", "small")
        assert "optim.lr" in build_option_page("experiment", "small")
        assert "experiment" in build_overview()
    finally:
        for kept in caches:
            kept.cache_clear()


def test_conf_lies_where_composing_finds_it() -> None:
    assert choices.find_conf_dir() == compose.find_conf_dir()


def test_the_defaults_are_those_that_hydra_composes() -> None:
    ours = choices.read_default_options()
    assert {group: name for group, name in compose.compose().choices.items() if group in ours} == ours
