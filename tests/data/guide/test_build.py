"""The shipped data set: fresh, nothing held out is taught, nothing named that does not exist, rates as in the table."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fulgurite.config.check_value import check
from fulgurite.config.run import list_all_knobs
from fulgurite.config.schema import Knob, Option, Range, list_groups, list_options, option
from fulgurite.data.guide import build as make
from fulgurite.data.guide.questions import ASKED, HELD_OUT, QUESTIONS, TRAIN
from fulgurite.errors import DataError
from fulgurite.optim import default_lrs as rates


def records(path: Path) -> list[list[dict[str, str]]]:
    return [json.loads(line)["messages"] for line in path.read_text(encoding="utf-8").splitlines()]


def answers(path: Path) -> list[str]:
    return [m["content"] for talk in records(path) for m in talk if m["role"] == "assistant"]


def exists(word: str) -> bool:
    """Whether `optim.lr`, `optim` or `optim=adamw` can be explained."""
    paths = {k.path for k in list_all_knobs()}
    group, equals, name = word.partition("=")
    return name in list_options(group) if equals else word in list_groups() or word in paths


def test_the_files_are_fresh() -> None:
    assert make.main(["--check"]) == 0, "run python -m fulgurite.data.guide.build"


def test_a_stale_file_is_noticed_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "train.jsonl"
    monkeypatch.setattr(make, "TRAIN", copy)
    assert make.main(["--check"]) == 1
    assert make.main([]) == 0
    assert make.main(["--check"]) == 0
    copy.write_text(copy.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    capsys.readouterr()
    assert make.main(["--check"]) == 1
    assert "train.jsonl: stale" in capsys.readouterr().err


def test_an_unknown_word_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert make.main(["--chekc"]) == 2
    assert "--check" in capsys.readouterr().err


def test_sizes() -> None:
    by_hand = [t for t in make.read_written() if not t.held_out]
    train = records(TRAIN)
    assert 350 <= len(train) <= 500
    assert len(train) - len(by_hand) <= len(by_hand), "the derived part is at most half of the set"
    assert len(records(HELD_OUT)) >= 40
    assert 10 <= sum(len(talk) > 2 for talk in train) <= 20
    # 45,000 tokens fit into a first run of five minutes: 4 characters a token, and 31 tokens of chat format a talk.
    assert sum(len(m["content"]) for talk in train for m in talk) / 4 + 31 * len(train) < 45_000


def test_each_talk_is_question_and_answer_in_turn() -> None:
    for talk in records(TRAIN) + records(HELD_OUT):
        assert [m["role"] for m in talk] == ["user", "assistant"] * (len(talk) // 2)
        assert all(m["content"] == m["content"].strip() != "" for m in talk)


def test_no_question_is_asked_twice_nor_held_out_and_taught() -> None:
    first = Counter(talk[0]["content"].casefold() for talk in records(TRAIN) + records(HELD_OUT))
    assert [q for q, times in first.items() if times > 1] == []


def test_answers_are_short() -> None:
    for text in answers(TRAIN) + answers(HELD_OUT):
        assert len(text) <= 400, text


def test_the_five_questions_are_held_out() -> None:
    assert records(QUESTIONS) == [[{"role": "user", "content": question}] for question in ASKED]
    assert set(ASKED) <= {talk[0]["content"] for talk in records(HELD_OUT)}


def test_answers_name_only_pages_of_explain_that_exist() -> None:
    texts = answers(TRAIN) + answers(HELD_OUT)
    named = {word for text in texts for word in re.findall(r"`fulgurite explain ([^`]+)`", text)}
    assert len(named) > 60
    assert [word for word in sorted(named) if not exists(word)] == []


def test_settings_in_answers_are_legal() -> None:
    texts = [t for talk in make.read_written() for t in talk.turns[1::2]]
    found = {m for text in texts for m in re.findall(r"`([a-z_.]+)=([^`\s]*)`", text)}
    assert len(found) > 10
    for name, text in sorted(found):
        if "." not in name:
            assert exists(f"{name}={text}"), f"{name}={text}"
        elif text:
            declared = next(k for k in list_all_knobs() if k.path == name)
            if declared.choices:
                assert text in declared.choices
            elif re.fullmatch(r"[\d.e-]+", text):
                check(declared, float(text))


@pytest.mark.parametrize(("question", "stage", "method", "column"), [
    ("What learning rate should I use for LoRA on a 7B model?", "sft", "lora", 2),
    ("Which learning rate suits LoRA on a 70B model?", "sft", "lora", 3),
    ("which lr for lora, my model has 0.5B parameters", "sft", "lora", 0),
    ("How do I choose a learning rate for LoRA on a 1B model?", "sft", "lora", 1),
    ("What learning rate should I use to fine-tune all weights of a 7B model?", "sft", "full", 2),
    ("lr for full fine-tuning of a small model, about 135M?", "sft", "full", 0),
    ("Full SFT of a 3B model: which rate?", "sft", "full", 1),
    ("Which learning rate for continued pre-training of a 7B model?", "pt", "full", 2),
])
def test_rates_are_those_of_the_table(question: str, stage: str, method: str, column: int) -> None:
    talk = next(talk for talk in records(TRAIN) if talk[0]["content"] == question)
    rate = make.format_number(rates.TABLE[stage, method][column].value)
    assert talk[1]["content"].startswith(f"Start at {rate}")


@pytest.mark.parametrize(("x", "words"), [
    (2e-4, "2e-4"), (1e-8, "1e-8"), (5e-7, "5e-7"), (0.05, "0.05"), (0.001, "0.001"),
    (0, "0"), (1.0, "1"), (10_000, "10,000"),
])
def test_numbers_are_written_as_people_write_them(x: float, words: str) -> None:
    assert make.format_number(x) == words


@pytest.mark.parametrize(("line", "complaint"), [
    ("{", ":2 needs a subject and turns"),
    ('{"turns": ["a", "b"]}', ":2 needs a subject and turns"),
    ('{"subject": "s", "turns": ["a"]}', ":2: expected alternating questions and answers"),
    ('{"subject": "s", "turns": ["a", " "]}', ":2: expected alternating questions and answers"),
])
def test_a_bad_piece_is_named_by_its_line(tmp_path: Path, line: str, complaint: str) -> None:
    path = tmp_path / "written.jsonl"
    path.write_text('{"subject": "s", "turns": ["a", "b"]}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=re.escape("written.jsonl" + complaint)):
        make.read_written(path)


@pytest.mark.parametrize(("held_out", "complaint"), [
    (make.Talk("seed", ("WHAT IS SEED?", "A number."), True), "is in the training part too"),
    (make.Talk("tea", ("Green or black?", "Green."), True), "which is not in the training part"),
])
def test_a_bad_held_out_piece_is_refused(monkeypatch: pytest.MonkeyPatch, held_out: make.Talk, complaint: str) -> None:
    taught = [make.Talk("x", (f"Question {n}?", "Yes.")) for n in range(400)]
    monkeypatch.setattr(make, "read_written", lambda: [*taught, held_out])
    with pytest.raises(DataError, match=complaint):
        make.merge_talks()


def test_plug_ins_are_not_taught() -> None:
    before = make.list_own_options()
    foreign = option("optim", "of_a_plug_in")(type("Foreign", (Option,), {"__module__": "somewhere.else"}))
    try:
        assert make.list_own_options() == before
    finally:
        del list_options("optim")[foreign.name]  # type: ignore[attr-defined]


def test_of_knob_by_hand() -> None:
    cups = example(default=2.0, bounds=Range(low=1), usual=(1, 2), advice="Keep it.")
    talks = [t.turns for t in make.ask_about_knob([cups])]
    look = " See `fulgurite explain tea.cups`."
    assert talks == [
        ("What is tea.cups?", "How many cups. Keep it." + look),
        ("What should I set tea.cups to?", "Start with the default, 2. Usual is 1 or 2. Keep it." + look),
        ("Which values of tea.cups are legal?", "At least 1. Usual is 1 or 2. How many cups." + look),
    ]


def test_different_defaults_of_options_are_listed_by_option() -> None:
    two = [example(default=1, option="green"), example(default=3, option="black")]
    assert make.describe_start(two) == "Start with the default: 1 under tea=green, 3 under tea=black."


def example(option: str = "", **spec: Any) -> Knob:
    given: dict[str, Any] = {"bounds": None, "usual": None, "advice": "", "empty": None, **spec}
    return Knob(name="cups", type=float, meaning="How many cups.", source="", group="tea", option=option, **given)


def test_at_most_so_many_are_derived_and_every_knob_comes_first() -> None:
    classes = make.list_own_options()
    subjects = len(make.list_own_knobs(classes)) + len(classes)
    first = make.derive_talks(classes, subjects)
    assert len(make.derive_talks(classes, 7)) == 7
    assert len({t.subject for t in first}) == len(first) == subjects


def test_making_it_loads_no_heavy_library() -> None:
    heavy = "[h for h in ('torch', 'transformers', 'lightning') if h in sys.modules]"
    code = f"import sys, fulgurite.data.guide.build as m; m.build_files(); print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
