"""Chinese: every text is there and fresh, keeps names and numbers, and no page falls back to English."""

from __future__ import annotations

import json
import re

import pytest

from fulgurite.cli.explain import explain_main
from fulgurite.config.schema import Range
from fulgurite.explain import (
    build_entries,
    build_group_page,
    build_knob_page,
    build_option_page,
    build_overview,
    translate,
)
from fulgurite.explain import html as guide
from fulgurite.explain.curves import plot_loss
from fulgurite.explain.knob_index import list_every_knob
from fulgurite.explain.layout import format_kind, format_usual, format_value
from fulgurite.explain.pages import list_all_groups, list_choices
from fulgurite.explain.search import search
from fulgurite.language import catalogue
from fulgurite.language.catalogue import compute_digest, load_catalogue, translate_text
from fulgurite.language.current import detect_language, get_language, use_language
from fulgurite.stage.preference_table import list_names
from fulgurite.text.layout import count_cells, pad, wrap, wrap_paragraph

CHINESE = re.compile(r"[\u4e00-\u9fff]")
NAMES = re.compile(
    r"https?://[^\s,;:)]+|`[^`]+`|\b[a-z]+=[a-z_0-9]+\b|\b[a-z]+(?:\.[a-z_]+)+\b|\b[a-z]+_[a-z_]+\b|\{\w+\}",
)
TEXTS = [
    pytest.param(text, id=f"{text[0]}-{text[1]}-{compute_digest(text[2])}")
    for text in dict.fromkeys(translate.list_expected()) if text[2]
]


def test_every_text_is_translated_and_none_is_stale() -> None:
    """`python -m fulgurite.explain.translate --stale` prints them."""
    assert translate.list_missing("zh") == []
    assert translate.list_stale("zh") == []


@pytest.mark.parametrize("text", TEXTS)
def test_a_translation_keeps_names_addresses_and_gaps(text: translate.Text) -> None:
    place, field, english = text
    with use_language("zh"):
        chinese = translate_text(place, field, english)
    # A value or the name of a parameter alone is the same in both.
    assert CHINESE.search(chinese) or (english == chinese and re.fullmatch(r"[\w.]+", english))
    lost = [name for name in NAMES.findall(english) if name.rstrip(".") not in chinese]
    assert not lost, chinese
    assert set(re.findall(r"\{\w+\}", chinese)) == set(re.findall(r"\{\w+\}", english)), "a gap that nothing fills"
    assert not re.search(r"[\u4e00-\u9fff][,;:?!](?!\S)", chinese), "ASCII punctuation after Chinese"


def test_no_page_falls_back_to_english() -> None:
    catalogue.missed.clear()
    with use_language("zh"):
        pages = [build_overview()]
        for group in list_all_groups():
            pages += [build_group_page(group), *(build_option_page(group, name) for name in list_choices(group))]
        knobs = list_every_knob()
        for path in {knob.path for knob in knobs}:
            pages.append(build_knob_page([knob for knob in knobs if knob.path == path]))
        pages += [plot_loss(loss, {}) for loss in list_names()]
        pages += [guide.build_page(), search("学习率")]
        build_entries()
    assert catalogue.missed == set()
    assert all(CHINESE.search(page) for page in pages)


def test_lines_of_chinese_fit_the_terminal() -> None:
    with use_language("zh"):
        lines = [line for g in list_all_groups() for line in build_group_page(g).splitlines() if CHINESE.search(line)]
    assert max(map(count_cells, lines)) <= 80
    assert not [line for line in lines if line.strip()[0] in "，。；：、）"]


def test_wrapping_counts_two_columns_a_character() -> None:
    assert count_cells("学习 rate") == 9
    assert pad("学习", 6) == "学习  "
    assert wrap("学习率很重要", 6, "", "") == "学习率\n很重要"
    assert wrap("学习率，很重要", 6, "", "") == "学习\n率，很\n重要"  # no line begins with a closing mark
    assert wrap("取 optim.lr 的值", 10, "", " ") == "取\n optim.lr\n 的值"
    with use_language("zh"):
        assert wrap_paragraph("plain words here", 12) == "plain words\nhere"


def test_values_and_ranges_have_their_own_order_of_words() -> None:
    with use_language("zh"):
        assert format_usual(Range(1e-5, 1e-3)) == "1e-5 至 1e-3"
        assert format_usual(Range(0, 1, open_low=True, open_high=True)) == "0 至 1（不含 0 和 1）"
        assert format_usual(Range(low=1)) == "至少 1"
        assert format_usual(Range(low=0, open_low=True)) == "大于 0"
        assert format_usual(Range(high=3)) == "至多 3"
        assert format_usual(Range(high=3, open_high=True)) == "小于 3"
        assert format_usual(Range()) == "任意数值"
        assert format_usual((8, 16)) == "8 或 16"
        assert format_value(None) == "空"
        assert format_kind("list of one of a, b") == "列表，元素为 取其一： a, b"
    assert format_value(None) == "empty"


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({}, "en"), ({"LANG": "zh_CN.UTF-8"}, "zh"), ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LC_ALL": "zh_TW"}, "zh"), ({"LC_ALL": "", "LC_MESSAGES": "zh_CN", "LANG": "de_DE"}, "zh"),
        ({"LANG": "de_DE"}, "en"),
    ],
)
def test_the_language_is_the_terminal_s(environment: dict[str, str], language: str) -> None:
    assert detect_language(environment) == language


def test_the_command_speaks_as_it_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("LC_ALL", "LC_MESSAGES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    explain_main(["method.rank"])
    assert "附加矩阵的宽度" in capsys.readouterr().out
    explain_main(["method.rank", "--lang", "en"])
    assert "The width of the added matrices" in capsys.readouterr().out
    explain_main(["method.rank", "--json"])  # a program reads English whatever the terminal speaks
    assert json.loads(capsys.readouterr().out)[0]["meaning"].startswith("The width")
    explain_main(["method.rank", "--json", "--lang", "zh"])
    [entry, *_] = json.loads(capsys.readouterr().out)
    assert entry["knob"] == "method.rank"
    assert entry["meaning"].startswith("附加矩阵")
    assert CHINESE.search(entry["interacts"]["method.alpha"])
    assert get_language() == "en"


def test_both_languages_are_searched() -> None:
    with use_language("zh"):
        assert "scheduler.warmup_ratio" in search("预热")
        assert "scheduler.warmup_ratio" in search("warmup")


def test_a_changed_text_is_missed_and_its_old_entry_stale(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    held = {"seed": {"meaning": {compute_digest("Old words."): "旧话。"}}}
    monkeypatch.setattr(translate, "load_catalogue", lambda language: held)
    monkeypatch.setattr(translate, "list_expected", lambda: iter([("seed", "meaning", "New words.")]))
    assert translate.list_missing("zh") == [("seed", "meaning", "New words.")]
    assert translate.list_stale("zh") == [("seed", "meaning", compute_digest("Old words."))]
    assert translate.main(["--stale"]) == 1
    out = capsys.readouterr().out
    assert f"zh: missing  seed · meaning · {compute_digest('New words.')}  New words." in out
    assert f"zh: stale    seed · meaning · {compute_digest('Old words.')}" in out


def test_an_unknown_text_is_told_in_english() -> None:
    with use_language("zh"):
        assert translate_text("seed", "meaning", "Never said.") == "Never said."
    assert catalogue.missed == {("seed", "meaning", "Never said.")}
    catalogue.missed.clear()
    for fields in load_catalogue("zh").values():
        for texts in fields.values():
            assert all(isinstance(text, str) for text in texts.values())
