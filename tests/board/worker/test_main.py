"""The worker: a plan for each request, refusals with their parameter, and a process that ends with its server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fulgurite.board.worker.main import Worker, answer_line, encode_answer, make_finite


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Worker:
    return Worker([tmp_path_factory.mktemp("root")])


def ask(worker: Worker, draft: Any, language: str = "en", kind: str = "plan") -> dict[str, Any]:
    return worker.answer({"id": 1, "kind": kind, "draft": draft, "lang": language})


TINY = {"choices": {"model": "tiny"}}


def test_plan_follows_the_draft_and_its_language(worker: Worker) -> None:
    one = ask(worker, TINY)
    assert one["status"] == 200
    assert one["body"]["sentence"].startswith("SFT with LoRA, 90 steps")
    two = ask(worker, {**TINY, "values": {"trainer.max_steps": "7", "optim.lr": "1e-3"}}, "zh")["body"]
    assert two["sentence"].startswith("SFT，LoRA，7 步")
    assert two["schedule"]["lr"] == 1e-3


@pytest.mark.parametrize(("draft", "about", "part"), [
    ({"values": {"optim.lr": "x"}}, "optim.lr", "a number"),
    ({"values": {"optim.lr": "-1"}}, "optim.lr", "0 to 1"),
    ({"values": {"optim.momentum": "0.5"}}, "optim.momentum", "belongs to"),
    ({"choices": {"method": "nope"}}, "method", "nope"),
    ({"values": {"optim.lrr": "1"}}, "optim.lrr", "no parameter"),
    ({"values": {"plan.allow": "[nothing]"}}, "plan.allow", "no rule"),
    ({"choices": {"data": "file"}, "values": {"data.path": "/etc/passwd"}}, "data.path", "outside the folders"),
    ({"choices": {"data": "file"}}, "data.path", "data.path"),
    ({"choices": {"privacy": "dp_sgd"}, "values": {"privacy.epsilon": "-1"}}, "privacy.epsilon", "above 0"),
    ({"values": {"data.val_fraction": "0", "trainer.early_stopping_patience": "3"}}, "trainer.early_stopping_patience",
     "counts evaluations"),
    ({"values": {"optim.lr": "a\nb"}}, "optim.lr", "a\\nb"),
    ("no draft", "", "A draft is"),
])
def test_refusal_names_the_parameter(worker: Worker, draft: Any, about: str, part: str) -> None:
    if isinstance(draft, dict):
        draft = {**draft, "choices": {"model": "tiny", **draft.get("choices", {})}}
    found = ask(worker, draft)
    assert found["status"] == 422
    assert part in found["body"]["error"]
    assert "\n" not in found["body"]["error"]
    assert found["body"]["about"] == about


def test_error_of_the_data_has_a_remedy_that_the_draft_takes(worker: Worker) -> None:
    found = ask(worker, {"choices": {"model": "tiny", "stage": "dpo"}})
    assert found["status"] == 422
    assert found["body"]["words"] == "stage=sft"
    assert found["body"]["changes"] == {"choices": {"stage": "sft"}, "values": {}}


def test_changed_data_file_changes_the_plan(worker: Worker) -> None:
    folder = worker.roots.folders[0]
    file = folder / "my data.jsonl"
    record = json.dumps({"instruction": "What is it?", "output": "It is a test."}) + "\n"
    file.write_text(record * 40)
    draft = {"choices": {"model": "tiny", "data": "file"}, "values": {"data.path": str(file)}}
    before = ask(worker, draft)["body"]
    assert before["rows"] + before["validation_rows"] == 40
    file.write_text(record * 60)
    after = ask(worker, draft)["body"]
    assert after["rows"] + after["validation_rows"] == 60
    file.write_text("not json\n" * 3)
    assert ask(worker, draft)["status"] == 422


def test_kept_parts_give_the_same_plan_as_a_new_process(worker: Worker) -> None:
    """Going back and forth between values leaves no trace of those between."""
    drafts = [
        TINY, {**TINY, "values": {"data.template": "chatml"}}, {**TINY, "values": {"data.template": "llama3"}},
        {**TINY, "values": {"data.max_length": "64", "data.mask": "last"}},
        {"choices": {"model": "tiny", "method": "full"}},
        {**TINY, "values": {"data.special_tokens": "drop", "seed": "3"}},
    ]
    kept = [ask(worker, draft)["body"] for draft in (*drafts, *reversed(drafts))][len(drafts):][::-1]
    for draft, found in zip(drafts, kept, strict=True):
        fresh = ask(Worker([worker.roots.folders[0]]), draft)["body"]
        # what is free changes by itself, and each process measures the machine's speed for the seconds of the sentence
        ours, theirs = (
            {name: value for name, value in body.items() if name not in ("memory", "disk", "sentence", "seconds")}
            for body in (found, fresh)
        )
        assert ours == theirs
        assert (found.get("seconds") or 0) == pytest.approx(fresh.get("seconds") or 0, rel=0.9)  # none if refused


def test_unknown_kind_and_broken_line(worker: Worker) -> None:
    assert ask(worker, TINY, kind="nope")["status"] == 404
    assert answer_line(worker, b"{")["status"] == 500
    assert answer_line(worker, b"[]")["status"] == 500


def test_answers_are_json_of_utf8() -> None:
    found = make_finite({"a": float("nan"), "b": [1.5, True, None, Path("x")]})
    assert found == {"a": None, "b": [1.5, True, None, "x"]}
    assert encode_answer({"a": "数\ud800"}) == '{"a": "数?"}\n'.encode()


def test_process_answers_lines_at_low_priority_and_ends_with_its_input(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "fulgurite.board.worker.main", "--root", str(tmp_path)], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, cwd=tmp_path,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(b'{"id": 7, "kind": "machine"}\n')
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        assert (answer["id"], answer["status"]) == (7, 200)
        assert os.getpriority(os.PRIO_PROCESS, process.pid) >= 10
        process.stdin.close()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.stdout.close()
        process.wait()
