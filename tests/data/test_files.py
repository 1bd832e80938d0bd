"""Which files a data set consists of: paths, patterns, folders, saved data sets, hub ids."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.data.made_records import Write
from tests.data.read_values import ROWS

from fulgurite.data.build import build_source
from fulgurite.data.config import File
from fulgurite.data.files import find_files
from fulgurite.errors import DataError


def test_patterns_folders_and_lists_in_order(write: Write, tmp_path: Path) -> None:
    made = [write(name, ROWS) for name in ("d/b.jsonl", "d/a.jsonl", "d/c.json")]
    write("d/notes.md", "no data")
    assert find_files([str(tmp_path / "d")]) == [[made[1], made[0], made[2]]]
    assert find_files([str(tmp_path / "d/*.jsonl"), str(made[2])]) == [[made[1], made[0]], [made[2]]]
    assert find_files([str(tmp_path / "**/*.json")]) == [[made[2]]]


@pytest.mark.parametrize(("word", "said"), [
    ("data.jsno", r"no such file\. Did you mean .*data\.json\?"), ("*.parquet", "no such file"),
    ("d", "the folder has no"),
    ("notes.md", r"the extension '\.md' is not supported; supported are \.json"), ("missing/x.json", "no such file"),
])
def test_a_path_that_names_no_data_is_refused(word: str, said: str, write: Write, tmp_path: Path) -> None:
    write("data.json", ROWS)
    write("notes.md", "no data")
    (tmp_path / "d").mkdir()
    with pytest.raises(DataError, match=said):
        find_files([str(tmp_path / word)])


@pytest.mark.parametrize("word", [
    "tatsu-lab/alpaca", "https://huggingface.co/datasets/tatsu-lab/alpaca", "hf://datasets/tatsu-lab/alpaca",
    "hf:tatsu-lab/alpaca",
])
def test_a_data_set_of_the_hub_is_named_with_its_words(
    word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError,
        match=r"there is no such file\. For the dataset of the hub, write data\.path=hub:tatsu-lab/alpaca\."):
        find_files([word])
    with pytest.raises(DataError) as caught:
        find_files(["data/alpaca.jsonl"])
    assert "hub" not in str(caught.value)


def _link(path: Path) -> None:
    path.symlink_to(path.parent / "gone")


ODD: dict[str, tuple[Callable[[Path], None], str]] = {
    "a link to nothing": (_link, "is a link to .*/gone, which does not exist; remove it"),
    "a link to itself": (lambda path: path.symlink_to(path), "is a link to .*x.jsonl in a loop of links"),
    "a pipe": (lambda path: os.mkfifo(path), "is a pipe; remove it"),
    "a link to a device": (lambda path: path.symlink_to("/dev/zero"), "is a link to a device; remove it"),
    "a folder": (lambda path: path.mkdir(), "is a folder; give the files in it"),
}


@pytest.mark.parametrize("name", ODD)
def test_an_unreadable_entry_of_a_folder_is_refused(name: str, write: Write, tmp_path: Path) -> None:
    make, said = ODD[name]
    write("d/a.jsonl", ROWS)
    make(tmp_path / "d/x.jsonl")
    for word in ("d", "d/*.jsonl"):
        with pytest.raises(DataError, match=rf"data\.path=\S*{re.escape(word)}: x\.jsonl {said}"):
            find_files([str(tmp_path / word)])
    with pytest.raises(DataError) as caught:
        find_files([str(tmp_path / "d/x.jsonl")])
    assert "Did you mean" not in str(caught.value)
    (tmp_path / "d/x.jsonl").rename(tmp_path / "d/.x.jsonl")
    assert find_files([str(tmp_path / "d")]) == [[tmp_path / "d/a.jsonl"]]


@pytest.mark.parametrize("word", ["itself.jsonl", "one.jsonl", "ring/x.jsonl"])
def test_a_ring_of_links_is_named(word: str, tmp_path: Path) -> None:
    for name, target in (
        ("itself.jsonl", "itself.jsonl"), ("one.jsonl", "two.jsonl"), ("two.jsonl", "one.jsonl"), ("ring", "ring")
    ):
        (tmp_path / name).symlink_to(target)
    with pytest.raises(DataError, match="is a loop of links that leads to no file"):
        find_files([str(tmp_path / word)])
    with pytest.raises(DataError, match=r"is a link to itself\.jsonl in a loop of links; remove it"):
        find_files([str(tmp_path / "i*.jsonl")])


@pytest.mark.parametrize("word", ["x" * 300 + ".jsonl", "a/" * 3000, "a\0b.jsonl", "*" * 3000, "[" * 50, "[!", "**"])
def test_an_impossible_path_is_one_line(word: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read|no such file|NUL"):
        find_files([f"{tmp_path}/{word}"])


def test_a_file_named_twice_is_refused(write: Write, tmp_path: Path) -> None:
    path = write("a.jsonl", ROWS)
    with pytest.raises(DataError, match=r"given twice in data\.path"):
        find_files([str(path), str(tmp_path / "*.jsonl")])


@pytest.fixture
def saved(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Path:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    whole = datasets.Dataset.from_list([{"instruction": f"q{i}", "output": f"a{i}"} for i in range(9)])
    whole.save_to_disk(tmp_path / "one", num_shards=2)
    datasets.DatasetDict({"train": whole.select([3, 1]), "test": whole.select([5])}).save_to_disk(tmp_path / "two")
    datasets.DatasetDict({"validation": whole.select([3, 1]),
        "test": whole.select([5])}).save_to_disk(tmp_path / "three")
    return tmp_path


def test_a_folder_saved_by_hf_datasets(saved: Path) -> None:
    def read(name: str) -> list[str]:
        source = build_source(File(path=[str(saved / name)]), stage="sft", seed=1)
        return [e.messages[0].content for e in source.examples()]  # type: ignore[union-attr,index]

    assert read("one") == [f"q{i}" for i in range(9)]
    assert read("two") == ["q3", "q1"], "the train split alone"
    assert read("two/test") == ["q5"]
    with pytest.raises(
        DataError, match=r"expected a split train, found validation, test; choose one: .*three/validation"
    ):
        read("three")


@pytest.mark.parametrize("splits", ["[5]", '["."]', '[""]', '["../x"]', "{}", "[" * 100_000])
def test_a_saved_folder_whose_splits_are_no_names_is_refused(splits: str, write: Write, tmp_path: Path) -> None:
    write("dataset_dict.json", f'{{"splits": {splits}}}')
    with pytest.raises(DataError, match=r"dataset_dict\.json: field 'splits'"):
        find_files([str(tmp_path)])


def test_a_saved_folder_cannot_name_files_outside_of_it(saved: Path, tmp_path: Path) -> None:
    state = tmp_path / "one" / "state.json"
    state.write_text(json.dumps({"_data_files": [{"filename": "../../etc/passwd.arrow"}]}))
    with pytest.raises(DataError, match=r"lists passwd\.arrow, which is not in the folder"):
        find_files([str(tmp_path / "one")])
    state.write_text("{}")
    with pytest.raises(DataError, match=r"state\.json: field '_data_files'"):
        find_files([str(tmp_path / "one")])


def test_a_hub_id_without_a_network_is_one_line() -> None:
    pytest.importorskip("datasets")
    with pytest.raises(
        DataError, match=r"data\.path=hub:nobody/nothing: the hub has no such dataset, or cannot be reached"
    ) as caught:
        find_files(["hub:nobody/nothing"])
    assert "\n" not in str(caught.value)
