"""Pieces of the guide's HTML: nothing becomes markup by itself, links end where they should, bars show their ranges."""

from __future__ import annotations

import re

import pytest

from fulgurite.config.confidence import Sure
from fulgurite.config.decision import Decision, Kind
from fulgurite.config.schema import Range
from fulgurite.explain import page_parts as parts
from fulgurite.language import UserMessage, message, use_language


def test_text_cannot_become_markup() -> None:
    assert parts.format_rich("a < b & `x<y`, see https://arxiv.org/abs/1.") == (
        'a &lt; b &amp; <code>x&lt;y</code>, see <a href="https://arxiv.org/abs/1">arxiv.org/abs/1.</a>'
    )
    assert parts.link_names("TRL's table").startswith('<a href="https://huggingface.co/docs/trl">TRL</a>')


@pytest.mark.parametrize("after", ["）。", "，见", "；", "。", "), and", "; or", "」"])
def test_a_link_ends_before_punctuation(after: str) -> None:
    assert 'href="https://arxiv.org/abs/2307.09288"' in parts.format_rich(f"（https://arxiv.org/abs/2307.09288{after}")


def test_a_bar_shows_legal_usual_and_value() -> None:
    bar = parts.draw_range(Range(0, 1, open_low=True), Range(1e-4, 3e-4), [2e-4])
    assert {"0", "1", "1e-4", "3e-4", "2e-4"} == set(re.findall(r">([^<>]+)</text>", bar))
    assert 'class="usual"' in bar
    assert bar.count("beyond") == 2, "0 and 1 are far beyond the usual rates"
    assert "legal: 0 to 1, 0 excluded; usual: 1e-4 to 3e-4; = 2e-4" in bar
    assert parts.draw_range(Range(0, 1), None, [0.5]) == ""
    assert parts.draw_range(None, ("a", "b"), []) == ""


def test_a_list_of_usual_values_is_dots() -> None:
    bar = parts.draw_range(Range(1), (8, 16, 32), [16])
    assert bar.count('class="tick"') == 3
    assert {"1", "8", "32", "16"} == set(re.findall(r">([^<>]+)</text>", bar))


def test_long_numbers_are_written_short_at_the_ends_of_a_bar() -> None:
    bar = parts.draw_range(Range(0, 1_000_000), Range(1, 3), [2])
    assert "1e6" in re.findall(r">([^<>]+)</text>", bar)


def test_a_scale_over_decades_is_logarithmic() -> None:
    rates = parts.build_scale(Range(0, 1), [1e-5, 1e-3])
    assert rates.logarithmic
    assert rates.place(1e-4) == pytest.approx((rates.place(1e-5) + rates.place(1e-3)) / 2)
    shares = parts.build_scale(Range(0, 1), [0.0, 0.1])
    assert not shares.logarithmic
    assert (shares.place(0), shares.place(1)) == (parts.MARGIN, parts.WIDTH - parts.MARGIN)
    assert shares.place(7) == shares.place(1)


def test_a_badge_is_about_the_value_that_is_shown() -> None:
    derived = Decision("optim.lr", 1e-3, Kind.derived, UserMessage("measured on the guide"))
    assert parts.grade_value(Sure.verified, derived) is Sure.measured
    assert parts.grade_value(Sure.verified, None) is Sure.verified
    assert 'class="badge paper"' in parts.build_badge(Sure.paper)
    assert parts.build_badge(None) == ""


def test_a_sentence_is_translated_if_all_its_parts_are() -> None:
    known, unknown = message("Learning rate"), UserMessage("Nobody wrote this.")
    assert parts.is_translated(unknown)
    with use_language("zh"):
        assert parts.is_translated(known)
        assert not parts.is_translated(unknown)
        assert not parts.is_translated(UserMessage("{other}", {"other": unknown}))
        assert parts.is_translated(UserMessage("{other}", {"other": known}))


def test_sentences_are_joined_as_their_language_does() -> None:
    both = [message("Learning rate"), message("Optimizer")]
    assert parts.join_sentences(both) == "Learning rate Optimizer"
    with use_language("zh"):
        assert parts.join_sentences(both) == "学习率优化器"


def test_tables_and_lists() -> None:
    assert parts.build_table(["a"], [["b"]], "grid") == (
        '<div class="wide"><table class="grid"><thead><tr><th>a</th></tr></thead>'
        "<tbody><tr><td>b</td></tr></tbody></table></div>"
    )
    assert parts.build_facts({"a": "b", "c": ""}) == "<dl><dt>a</dt><dd>b</dd></dl>"
    assert parts.link_knob("optim.lr") == '<a href="#optim.lr">Learning rate <code>optim.lr</code></a>'
