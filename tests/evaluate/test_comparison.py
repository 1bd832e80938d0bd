"""The table of a comparison: blind, safe in a spreadsheet, and read back as it was judged."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from fulgurite.data.example import Conversation, Message
from fulgurite.errors import RequestError
from fulgurite.evaluate.comparison import compare_numbers, name_key, read_judgements, write_comparison
from fulgurite.evaluate.metrics import find_metrics
from fulgurite.evaluate.questions import HeldOutQuestion

COUNT = 12


@pytest.fixture
def table(tmp_path: Path) -> Path:
    questions = [HeldOutQuestion(f"f:{n}", Conversation((Message("user", f"question {n}"),))) for n in range(COUNT)]
    path = tmp_path / "table.csv"
    write_comparison(
        path, questions, ("one", [f"first {n}" for n in range(COUNT)]), ("two", [f"second {n}" for n in range(COUNT)]),
        seed=3,
    )
    return path


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))))


def judge(path: Path, words: dict[int, str], separator: str = ",") -> None:
    """Fills the column `better` of the rows with these numbers."""
    rows = [row | {"better": words.get(int(row["number"]), row["better"])} for row in read(path)]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=separator)
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(out.getvalue())


def test_sides_are_shuffled_and_the_table_names_no_model(table: Path) -> None:
    rows, key = read(table), json.loads(name_key(table).read_text())
    assert [row["number"] for row in rows] == [str(n + 1) for n in range(COUNT)]
    assert {*key["first_is_left"]} == {True, False}
    for n, row in enumerate(rows):
        answers = (f"first {n}", f"second {n}")
        assert (row["left"], row["right"]) == (answers if key["first_is_left"][n] else answers[::-1])
        assert (row["question"], row["better"]) == (f"question {n}", "")
    assert "one" not in table.read_text().split(",")


def test_judgements_of_the_first_model_s_answers_count_for_it(table: Path) -> None:
    sides = json.loads(name_key(table).read_text())["first_is_left"]
    words = {n + 1: "Left" if sides[n] else "右" for n in range(3)} | {4: "tie", 5: "R" if sides[4] else "l"}
    judge(table, words)
    found = read_judgements(table)
    assert found.outcomes == [1.0, 1.0, 1.0, 0.5, 0.0]
    assert (found.first, found.second, found.unjudged) == ("one", "two", COUNT - 5)


def test_a_spreadsheet_s_semicolons_are_read(table: Path) -> None:
    judge(table, {1: "tie"}, ";")
    assert read_judgements(table).outcomes == [0.5]


def test_rows_may_be_sorted_or_removed(table: Path) -> None:
    judge(table, {1: "tie", 2: "tie"})
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0], lines[2], lines[1]]) + "\n")
    found = read_judgements(table)
    assert (found.outcomes, found.unjudged) == ([0.5, 0.5], COUNT - 2)


def test_equal_answers_are_a_tie_already(tmp_path: Path) -> None:
    asked = Conversation((Message("system", "s"), Message("user", "u")))
    write_comparison(tmp_path / "t.csv", [HeldOutQuestion("f:1", asked)], ("a", ["x"]), ("b", ["x"]), 0)
    (row,) = read(tmp_path / "t.csv")
    assert (row["better"], row["question"]) == ("tie", "system: s\nuser: u")
    assert read_judgements(tmp_path / "t.csv").outcomes == [0.5]


@pytest.mark.parametrize("text", ["=HYPERLINK(1)", "+1", "-1", "@x", "\tx"])
def test_a_formula_is_text(tmp_path: Path, text: str) -> None:
    asked = Conversation((Message("user", text),))
    write_comparison(tmp_path / "t.csv", [HeldOutQuestion("f:1", asked)], ("a", [text]), ("b", ["plain"]), 0)
    (row,) = read(tmp_path / "t.csv")
    assert row["question"] == f"'{text}"
    assert {row["left"], row["right"]} == {f"'{text}", "plain"}


@pytest.mark.parametrize(("change", "sentence"), [
    (lambda text: text.replace("better", "best"), "has the columns"),
    (lambda text: text, "has no judgements"),
    (lambda text: text.replace("question 0", "question 0", 1).replace("\n1,", "\n99,"), "number is '99'"),
    (lambda text: text.replace("\n2,", "\n1,"), "number is '1'"),
    (lambda text: text.replace("0,\n", "0,maybe\n", 1), "better is 'maybe'"),
])
def test_a_damaged_table_is_refused_with_its_line(table: Path, change: object, sentence: str) -> None:
    table.write_text(change(table.read_text()))  # type: ignore[operator]
    with pytest.raises(RequestError, match=sentence):
        read_judgements(table)


@pytest.mark.parametrize("text", [None, "{", '{"first_is_left": 3, "first": "a", "second": "b"}'])
def test_a_table_without_its_key_is_refused(table: Path, text: str | None) -> None:
    name_key(table).unlink()
    if text is not None:
        name_key(table).write_text(text)
    with pytest.raises(RequestError, match=r"the key of .*cannot be read"):
        read_judgements(table)


def test_numbers_judge_at_once() -> None:
    first = [{"exact_match": 1.0, "reward/x": 2.0}, {"exact_match": 0.0}, {"exact_match": 0.0}]
    second = [{"exact_match": 0.0, "reward/x": 2.0}, {"exact_match": 0.0, "reward/x": 1.0}, {"exact_match": 1.0}]
    assert compare_numbers(first, second) == {"exact_match": [1.0, 0.5, 0.0], "reward/x": [0.5]}


def test_of_some_numbers_the_smaller_wins() -> None:
    first, second = [{"calls_missed": 0.0, "call_name": 1.0}], [{"calls_missed": 1.0, "call_name": 0.0}]
    lower = find_metrics(["tool_calls"])[0].lower_wins
    assert compare_numbers(first, second, lower) == {"call_name": [1.0], "calls_missed": [1.0]}
    assert compare_numbers(second, first, lower) == {"call_name": [0.0], "calls_missed": [0.0]}
