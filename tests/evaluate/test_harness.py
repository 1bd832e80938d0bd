"""Tasks of lm-evaluation-harness: numbers by hand on local files. It is no part of the developers' packages, and is
imported by `make matrix` alone, where it is installed."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fulgurite.cli.main import main
from fulgurite.config.guard import Allowed
from fulgurite.data.example import Conversation, Message
from fulgurite.errors import ConfigError
from fulgurite.evaluate.command import build_answerer
from fulgurite.evaluate.generation import Decoding
from fulgurite.evaluate.harness import check_library, read_numbers, to_plain
from fulgurite.evaluate.questions import HeldOutQuestion
from fulgurite.evaluate.subject import Subject, load_run_subject

QUESTIONS = ["What is a warmup?", "What is the rank?", "Why?", "How many epochs are enough?", "Is it white?"]
CHOICES = ["yes it is", "no", "a rate"]

needs_harness = [
    pytest.mark.matrix,
    pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="lm-eval is not installed"),
]


def test_a_missing_package_is_named_before_a_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs the package lm-eval"):
        check_library()
    assert main(["eval", "model=tiny", "tasks=hellaswag"]) == 2


def test_numbers_of_tasks_are_plain() -> None:
    rows: dict[str, dict[str, Any]] = {
        "a": {"alias": "a", "acc,none": np.float64(0.5), "acc_stderr,none": "N/A", "em,strict": 1, "x,none": np.nan},
    }
    found = read_numbers(rows)
    assert found == {"a/acc": 0.5, "a/em/strict": 1.0}
    assert all(type(value) is float for value in found.values())


def test_facts_are_json() -> None:
    facts = to_plain({"v": {"a": 1.0, 2: np.float32(0.5)}, "n": (None, np.nan, "x", True)})
    assert json.loads(json.dumps(facts, allow_nan=False)) == {"v": {"a": 1.0, "2": 0.5}, "n": [None, None, "x", True]}


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """Two local tasks over one local file; the right answers are filled in by the tests."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    common = (
        f"dataset_path: json\ndataset_kwargs:\n  data_files: {folder / 'rows.jsonl'}\ntest_split: train\n"
        'doc_to_text: "{{question}}"\n'
    )
    (folder / "choose.yaml").write_text(
        f"task: choose\n{common}output_type: multiple_choice\n"
        'doc_to_choice: "{{choices}}"\ndoc_to_target: "{{right}}"\ntarget_delimiter: ""\nmetric_list:\n'
        "  - metric: acc\n"
    )
    (folder / "write.yaml").write_text(
        f"task: write\n{common}output_type: generate_until\n"
        'doc_to_target: "{{answer}}"\ngeneration_kwargs: {until: [], max_gen_toks: 6}\nmetric_list:\n'
        "  - metric: exact_match\n"
    )
    return folder


def ask(text: str) -> HeldOutQuestion:
    return HeldOutQuestion(text, Conversation((Message("user", text),)))


@torch.no_grad()
def choose_by_hand(subject: Subject, question: str) -> int:
    """The choice whose tokens have the largest log-likelihood after the chat template's prompt."""
    sums = []
    prompt = subject.template.encode_prompt(ask(question).messages)
    for choice in CHOICES:
        ids = subject.tokenizer(choice, add_special_tokens=False)["input_ids"]
        logits = subject.model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
        sums.append(float(logits.log_softmax(-1).gather(1, torch.tensor(ids)[:, None]).sum()))
    return int(np.argmax(sums))


@pytest.mark.parametrize("marked", [pytest.param(True, marks=needs_harness)])
def test_local_tasks_have_the_numbers_that_are_computed_by_hand(
    sft: Path, tasks: Path, marked: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The right choice is the model's own in three of five questions, and the reference its greedy answer in two."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    subject = load_run_subject(sft, "last", Allowed(), [], False)
    chosen = [choose_by_hand(subject, question) for question in QUESTIONS]
    answers = build_answerer(subject).answer([ask(question) for question in QUESTIONS], Decoding(6))
    rows = [
        {
            "question": question, "choices": CHOICES,
            "right": chosen[n] if n < 3 else (chosen[n] + 1) % len(CHOICES),
            "answer": answers[n].text if n < 2 else f"{answers[n].text} and more",
        }
        for n, question in enumerate(QUESTIONS)
    ]
    (tasks / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["tasks=choose,write", f"task_folder={tasks}", "batch_size=2"]
    assert main(["eval", f"run={sft}", "checkpoint=last", *words, "--json"]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert found["numbers"] == pytest.approx({"choose/acc": 3 / 5, "write/exact_match": 2 / 5})
    assert "fatal" not in shown.err
    assert found["data"]["tasks"]["library"].startswith("0.4")
    assert "examples" not in found["counts"]  # no held-out data were read


@pytest.mark.parametrize("marked", [pytest.param(True, marks=needs_harness)])
def test_answers_end_at_the_run_s_stop_tokens(sft: Path, tasks: Path, marked: bool, tmp_path: Path) -> None:
    """A token that greedy answers contain becomes a stop token: they end before it."""
    from fulgurite.evaluate.harness import TaskOptions, find_tasks, run_tasks

    subject = load_run_subject(sft, "last", Allowed(), [], False)
    prompt = torch.tensor([subject.template.encode_prompt(ask(QUESTIONS[0]).messages)])
    drawn = subject.model.generate(input_ids=prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=4,
        do_sample=False, eos_token_id=[], pad_token_id=0)[0, prompt.shape[1] :].tolist()
    stop = drawn[1]
    cut = drawn[: drawn.index(stop)]
    text = subject.tokenizer.decode(cut, skip_special_tokens=True)
    (tasks / "rows.jsonl").write_text(json.dumps({"question": QUESTIONS[0], "choices": CHOICES, "right": 0,
        "answer": text + subject.tokenizer.decode([stop])}) + "\n")
    manager = find_tasks(["write"], tasks)
    found = run_tasks(
        subject.model, subject.tokenizer, manager, ["write"], TaskOptions(1), stop_ids=[stop], length=subject.length
    )
    assert found.numbers == {"write/exact_match": 1.0}


@pytest.mark.parametrize("marked", [pytest.param(True, marks=needs_harness)])
def test_what_cannot_be_run_is_one_line(
    sft: Path, tasks: Path, marked: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tasks / "rows.jsonl").write_text("")
    hub = tasks / "hub.yaml"
    hub.write_text((tasks / "write.yaml").read_text().replace("task: write", "task: hub").replace(
        "dataset_path: json", "dataset_path: owner/nothing"))
    for words, sentence in (
        (["tasks=hub"], "the Hugging Face hub does not answer"), (["tasks=chose"], "has no task chose"),
    ):
        assert main(["eval", f"run={sft}", *words, f"task_folder={tasks}"]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert sentence in line
    assert "lm_eval" in sys.modules
