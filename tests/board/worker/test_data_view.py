"""A preview of data: what is learned, bad records by line, files of every kind, in bounded time."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from fulgurite.board.worker import data_view
from fulgurite.board.worker.main import Worker

RECORD = {"instruction": "What is it?", "output": "A <img src=x onerror=alert(1)> test."}


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Worker:
    return Worker([tmp_path_factory.mktemp("root")])


def preview(worker: Worker, path: Path | str, language: str = "en", **choices: str) -> tuple[int, dict[str, Any]]:
    draft = {"choices": {"model": "tiny", "data": "file", **choices}, "values": {"data.path": str(path)}}
    found = worker.answer({"id": 1, "kind": "data", "draft": draft, "lang": language})
    return found["status"], found["body"]


def write(worker: Worker, name: str, content: bytes | str) -> Path:
    path = worker.roots.folders[0] / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def lines(*records: Any) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def test_first_examples_have_what_is_learned_marked_as_plain_text(worker: Worker) -> None:
    status, found = preview(worker, write(worker, "a.jsonl", lines(*[RECORD] * 30)))
    assert (status, found["format"], found["examples"], found["refused"]) == (200, "alpaca", 30, "")
    shown = found["shown"][0]
    learned = "".join(part["text"] for part in shown["text"] if part["learned"])
    assert "A <img src=x onerror=alert(1)> test." in learned
    assert "What is it?" not in learned
    assert shown["tokens"] > shown["learned"] > 0
    assert found["lengths"]["of"] == 30
    assert len(found["shown"]) == 5


def test_stage_is_that_of_the_data_until_one_is_chosen(worker: Worker) -> None:
    pairs = write(worker, "pairs.jsonl", lines(*[{"prompt": "a", "chosen": "b", "rejected": "c"}] * 9))
    status, found = preview(worker, pairs)
    assert status == 200
    assert found["stage"] == "dpo"
    assert found["stages"][:1] == ["dpo"]
    assert [entry["what"] for entry in found["shown"][:2]] == ["chosen answer", "rejected answer"]
    status, refused = preview(worker, pairs, stage="sft")
    assert status == 200
    assert "sft" not in refused["stages"]
    assert "stage=dpo" in refused["refused"]
    assert refused["changes"]["choices"] == {"stage": "dpo"}


def test_bad_records_are_listed_by_line(worker: Worker) -> None:
    content = lines(RECORD, {"instruction": 3}, RECORD) + "no json\n" + lines({"instruction": 4})
    file = write(worker, "bad.jsonl", content)
    status, found = preview(worker, file)
    assert status == 200
    assert (found["records"], found["examples"]) == (5, 2)
    places = {place.rpartition(":")[2] for entry in found["dropped"] for place in entry["places"]}
    assert places == {"2", "4", "5"}
    assert "data.max_drop=3" in found["refused"]
    status, zh = preview(worker, file, "zh")
    assert "字段" in zh["dropped"][0]["reason"]


@pytest.mark.parametrize(("name", "content", "part"), [
    ("empty.jsonl", b"", "record"), ("none.xyz", b"x", "extension"), ("latin.txt", b"\xff\xfe", ""),
    ("zip.jsonl", b"PK\x03\x04xxxx", "zip"), ("all_bad.jsonl", b"no\nno\n", "not JSON"), ("nul.jsonl", b"\0\0\0\0", ""),
    ("cut.jsonl.gz", gzip.compress(lines(*[RECORD] * 50).encode())[:-20], ""), ("odd.parquet", b"PAR1", ""),
])
def test_file_that_cannot_be_read_is_one_sentence(worker: Worker, name: str, content: bytes, part: str) -> None:
    status, found = preview(worker, write(worker, name, content))
    assert status == 422
    assert part in found["error"]
    assert "\n" not in found["error"]


def test_folders_and_compressed_files_are_read(worker: Worker) -> None:
    folder = worker.roots.folders[0] / "many"
    folder.mkdir()
    (folder / "a.jsonl").write_text(lines(*[RECORD] * 3))
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(lines(*[RECORD] * 4).encode()))
    status, found = preview(worker, folder)
    assert (status, found["examples"], len(found["files"])) == (200, 7, 2)
    (folder / "c.jsonl").symlink_to("/etc/hostname")
    assert preview(worker, folder)[0] == 422


def test_bytes_that_are_no_utf8_are_bad_records(worker: Worker) -> None:
    file = write(worker, "bytes.jsonl", lines(RECORD) + '{"instruction": "a", "output": "' + "b" + '"}\n')
    file.write_bytes(file.read_bytes().replace(b'"b"', b'"\xff"'))
    status, found = preview(worker, file)
    assert status == 200
    assert (found["examples"], found["dropped"][0]["count"]) == (1, 1)


def test_large_file_is_read_for_a_bounded_time(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_view, "SECONDS_READING", 0.0)
    status, found = preview(worker, write(worker, "large.jsonl", lines(*[RECORD] * 500)))
    assert status == 200
    assert found["whole"] is False
    assert found["records"] < 500


def test_long_example_is_cut(worker: Worker) -> None:
    long = {"instruction": "a", "output": "word " * 6000}
    status, found = preview(worker, write(worker, "long.jsonl", lines(long, RECORD)))
    assert status == 200
    assert found["shown"][0]["cut"]
    assert found["shown"][0]["tokens"] == data_view.MOST_TOKENS
    assert not found["shown"][1]["cut"]


def test_data_is_shown_without_a_model(worker: Worker) -> None:
    file = write(worker, "a2.jsonl", lines(*[RECORD] * 3))
    draft = {"choices": {"model": "hf", "data": "file"},
             "values": {"data.path": str(file), "model.path": str(worker.roots.folders[0] / "nothing")}}
    found = worker.answer({"id": 1, "kind": "data", "draft": draft, "lang": "en"})
    assert found["status"] == 200
    assert found["body"]["note"]
    assert "What is it?" in found["body"]["shown"][0]["text"][0]["text"]
