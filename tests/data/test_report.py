"""data_report.json: every record is accounted for, and what was left out is in one sentence."""

from __future__ import annotations

import copy
import json
import pickle

import pytest

from fulgurite.data import report as reports
from fulgurite.data.report import DataReport, Phrases, Reason, count_lengths, join_names
from fulgurite.language.current import use_language
from fulgurite.language.message import UserMessage, message


def test_a_report_balances_if_every_record_is_accounted_for() -> None:
    report = DataReport("alpaca", ["a.jsonl"], rows_in=10, trained=5, validation=2, not_drawn=1, not_weighted=1)
    assert not report.balanced
    report.drop("too long", "a.jsonl:3")
    assert report.balanced
    report.drop("too long", "a.jsonl:4")
    assert not report.balanced


def test_places_are_listed_up_to_a_limit_and_all_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "PLACES", 2)
    report = DataReport("alpaca", ["a.jsonl"], rows_in=3)
    for line in (3, 4, 5):
        report.drop("too long", f"a.jsonl:{line}")
    body = json.loads(report.text())
    assert body["dropped"] == {"too long": {"count": 3, "places": ["a.jsonl:3", "a.jsonl:4"]}}
    assert body["dropped_by_reason"] == {"too long": 3}
    assert (body["format"], body["rows_in"]) == ("alpaca", 3)


def test_a_data_set_that_is_read_whole_has_an_empty_sentence() -> None:
    assert DataReport("alpaca", ["a.jsonl"], rows_in=3, trained=3).describe().english == ""


def test_all_that_was_left_out_is_one_sentence() -> None:
    report = DataReport(
        "alpaca", ["a.jsonl"], rows_in=5000, pairs_split=2, truncated=3, max_length=64, not_drawn=1000, not_weighted=4,
        answers_missed=5, pieces=6, unread_fields={"id": 9, "n": 1}, remarks={"two turns joined": 7},
        split_records=8, split_rows=9, split_tokens=10, answers_left_out={"too long": 11},
        written_otherwise={"with tools": 12},
    )
    report.drop(Reason(UserMessage("empty")), "a.jsonl:3")
    assert str(report.describe()) == (
        "5,000 records: 1 dropped (empty; the first at a.jsonl:3), made of 2 pairs, each split into a good and "
        "a bad answer, 3 truncated to 64 tokens, 1,000 not drawn (data.max_samples or num_samples), "
        "4 left out by data.weights, "
        "6 more pieces from documents cut at 64 tokens, 5 with an earlier answer whose tokens would differ at "
        "inference, 12 with tools, 8 conversations give 9 rows (10 tokens), one for each answer, because the chat "
        "template renders earlier turns "
        "differently once later ones follow (data.mask=last learns the last answers only), "
        "11 of their answers left out (too long), 7 with two turns joined, "
        "fields not read: id, n"
    )


def test_names_beyond_the_limit_are_counted() -> None:
    assert str(join_names(["a", "b"], most=2)) == "a, b"
    assert str(join_names(["a", "b", "c"], most=2)) == "a, b and 1 more"


def test_lengths_are_counted_up_to_powers_of_two_from_32() -> None:
    assert count_lengths([0, 1, 32, 33, 64, 65, 128, 1000]) == {"32": 2, "64": 2, "128": 2, "1024": 1}
    assert list(count_lengths([1000, 1])) == ["32", "1024"]


def test_reasons_are_english_keys_and_shown_in_the_language_in_use() -> None:
    reason = Reason(message("longer than data.max_length"))
    assert reason == "longer than data.max_length"
    with use_language("zh"):
        assert f"{reason}" == str(reason) == "超过 data.max_length"
        assert json.dumps({reason: 1}) == '{"longer than data.max_length": 1}'
        assert str(Phrases((reason, "a"))) == "超过 data.max_length，a"
    for copied in (copy.deepcopy(reason), pickle.loads(pickle.dumps(reason))):
        assert (copied, copied.sentence) == (reason, reason.sentence)


def test_the_report_is_chinese_but_its_file_is_not() -> None:
    report = DataReport("alpaca", ["a.jsonl"], rows_in=3, trained=2)
    report.drop(Reason(message("longer than data.max_length")), "a.jsonl:3")
    with use_language("zh"):
        assert str(report.describe()) == "共 3 条记录：丢弃 1 条（超过 data.max_length；首条在 a.jsonl:3）"
        assert "longer than data.max_length" in json.loads(report.text())["dropped_by_reason"]
