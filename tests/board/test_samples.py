"""samples.jsonl as prompts with their answers."""

from __future__ import annotations

from pathlib import Path

from tests.board.run_folders import write_rows

from fulgurite.board.samples import read_samples


def row(step: int, prompt: str, answer: str, **more: object) -> dict[str, object]:
    return {"step": step, "prompt": prompt, "answer": answer, "tokens": 3, "stopped": True} | more


def test_each_prompt_has_its_answers_by_step(tmp_path: Path) -> None:
    rows = [row(0, "a", "x"), row(0, "b", "y"), row(20, "a", "z", stopped=False), row(10, "a", "<img onerror=1>")]
    write_rows(tmp_path, rows, "samples.jsonl")
    assert read_samples(tmp_path) == [
        {"prompt": "a", "answers": [
            {"step": 0, "text": "x", "stopped": True}, {"step": 10, "text": "<img onerror=1>", "stopped": True},
            {"step": 20, "text": "z", "stopped": False},
        ]},
        {"prompt": "b", "answers": [{"step": 0, "text": "y", "stopped": True}]},
    ]


def test_damaged_rows_are_passed_over(tmp_path: Path) -> None:
    write_rows(tmp_path, [row(0, "a", "x"), {"step": 1}, {"step": 2, "prompt": 7, "answer": []}], "samples.jsonl")
    with (tmp_path / "samples.jsonl").open("a") as stream:
        stream.write('{"step": 3, "prom')
    assert [len(one["answers"]) for one in read_samples(tmp_path)] == [1]


def test_missing_file_and_link_give_nothing(tmp_path: Path) -> None:
    assert read_samples(tmp_path) == []
    (tmp_path / "secret").write_text('{"step": 1, "prompt": "p", "answer": "a"}\n')
    (tmp_path / "samples.jsonl").symlink_to(tmp_path / "secret")
    assert read_samples(tmp_path) == []
