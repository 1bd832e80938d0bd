"""Several files in one run: mixed by weights, validated on files of their own, and every record accounted for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.end_to_end.runs import losses, rows, tiny


def talks(path: Path, count: int, word: str) -> Path:
    """`count` short conversations in a file."""
    made = [
        [{"role": "user", "content": f"{word} {n}?"}, {"role": "assistant", "content": f"Yes, {word}."}]
        for n in range(count)
    ]
    path.write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in made))
    return path


def alpaca(path: Path, count: int) -> Path:
    """`count` examples in another format."""
    path.write_text(json.dumps([{"instruction": f"Name {n}.", "input": "", "output": "A rate."} for n in range(count)]))
    return path


def report(folder: Path) -> dict[str, Any]:
    """data_report.json, which balances."""
    found: dict[str, Any] = json.loads((folder / "data_report.json").read_text())
    left_out = found["not_drawn"] + found["not_weighted"] + sum(found["dropped_by_reason"].values())
    assert found["rows_in"] == found["trained"] + found["validation"] + left_out
    return found


def test_files_of_two_formats_are_mixed_by_weight(tmp_path: Path) -> None:
    first, second = talks(tmp_path / "a.jsonl", 20, "warmup"), alpaca(tmp_path / "b.json", 10)
    words = [
        "data=file", f"data.path=[{first},{second}]", "data.weights=[0.5,3]", "data.val_fraction=0",
        "data.max_samples=null",
    ]
    found = report(tiny(tmp_path / "run", *words))
    assert (found["rows_in"], found["trained"], found["not_weighted"], found["seen_an_epoch"]) == (30, 20, 10, 40)
    assert found["files"] == [str(first), str(second)]
    assert len(losses(tmp_path / "run")) == 2


def test_validation_files_of_their_own_are_all_used_and_never_trained_on(tmp_path: Path) -> None:
    first, second = talks(tmp_path / "a.jsonl", 20, "warmup"), talks(tmp_path / "b.jsonl", 10, "rank")
    held = talks(tmp_path / "val.jsonl", 7, "epoch")
    words = [
        "data=file", f"data.path=[{first},{second}]", f"data.val_path={held}", "data.weights=[1,2]",
        "data.max_samples=null",
    ]
    folder = tiny(tmp_path / "run", *words, "trainer.eval_every=1")
    found = report(folder)
    assert (found["rows_in"], found["trained"], found["validation"], found["seen_an_epoch"]) == (37, 30, 7, 40)
    assert len([row for row in rows(folder) if "val/loss" in row]) == 2


def test_a_sample_is_drawn_before_the_weights(tmp_path: Path) -> None:
    first, second = talks(tmp_path / "a.jsonl", 20, "warmup"), talks(tmp_path / "b.jsonl", 10, "rank")
    held = talks(tmp_path / "val.jsonl", 3, "epoch")
    words = [
        "data=file", f"data.path=[{first},{second}]", f"data.val_path={held}", "data.max_samples=12",
        "data.weights=[1,1]",
    ]
    found = report(tiny(tmp_path / "run", *words))
    assert (found["rows_in"], found["trained"], found["validation"], found["not_drawn"]) == (33, 12, 3, 18)


def test_a_file_of_weight_0_changes_nothing_but_the_report(tmp_path: Path) -> None:
    first, second = talks(tmp_path / "a.jsonl", 20, "warmup"), talks(tmp_path / "b.jsonl", 10, "rank")
    words = ["data=file", "data.val_fraction=0", "data.max_samples=null", "data.max_length=64", "optim.lr=1e-2",
        "trainer.global_batch_size=4"]
    alone = tiny(tmp_path / "alone", *words, f"data.path={first}", "data.weights=[1]")
    mixed = tiny(tmp_path / "mixed", *words, f"data.path=[{first},{second}]", "data.weights=[1,0]")
    assert losses(mixed) == losses(alone)
    assert report(mixed)["not_weighted"] == 10
