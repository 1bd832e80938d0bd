"""dataset_info.json: the datasets of LLaMA-Factory by their names."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fulgurite.data.build import build_source
from fulgurite.data.config import File
from fulgurite.data.example import Bad, Example
from fulgurite.data.source import Source
from fulgurite.errors import DataError

REAL = Path(os.environ.get("FULGURITE_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
Registry = Callable[..., Path]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Writes a registry, and a file for each entry that comes with records."""

    def write(**entries: tuple[dict[str, Any], list[Any]]) -> Path:
        for name, (entry, records) in entries.items():
            entry.setdefault("file_name", f"{name}.json")
            (tmp_path / f"{name}.json").write_text(json.dumps(records), encoding="utf-8")
        path = tmp_path / "dataset_info.json"
        path.write_text(json.dumps({name: entry for name, (entry, _) in entries.items()}), encoding="utf-8")
        return path

    return write


def _build(place: Path, *names: str, stage: str = "sft", **more: Any) -> Source:
    return build_source(File(registry=str(place), dataset=list(names), **more), stage=stage, seed=1)


def _read(source: Source) -> list[Example]:
    found = list(source.examples())
    bad = [example for example in found if isinstance(example, Bad)]
    assert not bad, bad
    return [example for example in found if isinstance(example, Example)]


def _talk(example: Example) -> list[tuple[str, str]]:
    assert example.messages is not None
    return [(message.role, message.content) for message in example.messages]


ALPACA = {"instruction": "Add.", "input": "1 and 2", "output": "3"}


def test_an_entry_without_columns_is_alpaca(registry: Registry) -> None:
    [example] = _read(_build(registry(sums=({}, [ALPACA])), "sums"))
    assert _talk(example) == [("user", "Add.\n1 and 2"), ("assistant", "3")]


def test_an_entry_with_columns_reads_no_other(registry: Registry) -> None:
    # LLaMA-Factory sets every column that `columns` lacks to None: `input` is not a part of this question
    entry = {"columns": {"prompt": "q", "response": "a", "system": "s", "history": "h"}}
    record = {"q": "Why?", "a": "So.", "s": "Be brief.", "h": [["Hi", "Hello"]], "input": "left out", "output": "too"}
    [example] = _read(_build(registry(why=(entry, [record])), "why"))
    assert _talk(example) == [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Why?"),
                              ("assistant", "So.")]


def test_tags_name_the_keys_and_roles_of_turns(registry: Registry) -> None:
    entry = {"formatting": "sharegpt", "columns": {"messages": "talk"},
             "tags": {"role_tag": "who", "content_tag": "what", "user_tag": "kunde", "assistant_tag": "wir"}}
    record = {"talk": [{"who": "kunde", "what": "Hallo"}, {"who": "wir", "what": "Guten Tag"}]}
    [example] = _read(_build(registry(de=(entry, [record])), "de"))
    assert _talk(example) == [("user", "Hallo"), ("assistant", "Guten Tag")]


@pytest.mark.parametrize("formatting", ["alpaca", "sharegpt"])
def test_ranking_is_a_pair(registry: Registry, formatting: str) -> None:
    if formatting == "alpaca":
        columns = {"prompt": "q", "chosen": "good", "rejected": "bad"}
        record: dict[str, Any] = {"q": "2 + 2?", "good": "4", "bad": "5"}
    else:
        columns = {"messages": "talk", "chosen": "good", "rejected": "bad"}
        record = {"talk": [{"from": "human", "value": "2 + 2?"}], "good": {"from": "gpt", "value": "4"},
                  "bad": {"from": "gpt", "value": "5"}}
    entry = {"formatting": formatting, "ranking": True, "columns": columns}
    [example] = _read(_build(registry(pairs=(entry, [record])), "pairs", stage="dpo"))
    assert _talk(example) == [("user", "2 + 2?"), ("assistant", "4")]
    assert example.rejected is not None
    assert example.rejected[-1].content == "5"


def test_kto_tag_is_the_label(registry: Registry) -> None:
    entry = {"formatting": "sharegpt", "columns": {"messages": "messages", "kto_tag": "liked"},
             "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}}
    records = [{"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"{n}!"}],
                "liked": n % 2 == 0} for n in range(2)]
    assert [example.good for example in _read(_build(registry(liked=(entry, records)), "liked", stage="kto"))] == [
        True, False]


def test_pre_training_reads_the_prompt_as_text(registry: Registry) -> None:
    entry = {"columns": {"prompt": "body"}}
    [example] = _read(_build(registry(web=(entry, [{"body": "Some text.", "url": "x"}])), "web", stage="pt"))
    assert example.text == "Some text."


def test_datasets_with_different_columns_are_mixed_with_weights(registry: Registry) -> None:
    path = registry(a=({}, [ALPACA]), b=({"columns": {"prompt": "q", "response": "r"}}, [{"q": "A?", "r": "B."}]))
    source = _build(path, "b", "a", weights=[2.0, 0.5])
    assert [_talk(example)[-1][1] for example in _read(source)] == ["B.", "3"]
    assert source.weights == [2.0, 0.5]


def test_num_samples_is_the_limit_of_its_file(registry: Registry) -> None:
    path = registry(a=({"num_samples": 5}, [ALPACA] * 9), b=({}, [ALPACA]))
    assert _build(path, "b", "a").limits == [None, 5]


def test_validation_datasets_have_names_too(registry: Registry) -> None:
    path = registry(a=({}, [ALPACA]), b=({}, [ALPACA]))
    source = _build(path, "a", val_dataset=["b"])
    assert ([file.name for file in source.train], [file.name for file in source.val]) == (["a.json"], ["b.json"])


def test_the_folder_of_the_files_may_be_another(registry: Registry, tmp_path: Path) -> None:
    path = registry(a=({}, [ALPACA]))
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (tmp_path / "a.json").rename(moved / "a.json")
    assert len(_read(_build(path, "a", path=[str(moved)]))) == 1


@pytest.mark.parametrize(("entry", "match"), [
    ({"formatting": "parquet"}, "formatting=parquet is not known; it is one of alpaca, sharegpt, openai"),
    ({"columns": {"promt": "x"}}, "columns has the key promt, which is not known. Did you mean prompt"),
    ({"columns": ["x"]}, "columns is a list, and an object of names was expected"),
    ({"columns": {"messages": "m", "images": "i"}, "formatting": "sharegpt"}, "a column of images; only text"),
    ({"formatting": "sharegpt", "tags": {"user": "x"}}, "tags has the key user, which is not known"),
    ({"ranking": True}, "has ranking, which needs the columns chosen and rejected"),
    ({"num_samples": 0}, "num_samples is 0, and a number of at least 1"),
    ({"num_samples": True}, "num_samples is True, and a number of at least 1"),
    ({"colums": {}}, "has the key colums, which is not read; remove it. Did you mean columns"),
    ({"subset": "en"}, "reads a part of a dataset of the hub"),
    ({"file_name": "../secret.json"}, "leads out of the folder"),
    ({"file_name": "gone.json"}, "there is no such file"),
    ({"file_name": None, "ms_hub_url": "x/y"}, "has no file_name and no hf_hub_url .ms_hub_url."),
    ({"columns": {"prompt": "x", "response": "y"}}, "output"),
])
def test_a_wrong_entry_is_refused_with_its_place(
    registry: Registry, tmp_path: Path, entry: dict[str, Any], match: str
) -> None:
    (tmp_path.parent / "secret.json").write_text("[]", encoding="utf-8")
    path = registry(bad=(entry, [ALPACA]))
    with pytest.raises(DataError, match=match) as caught:
        _build(path, "bad").check()
    assert "bad" in str(caught.value)


def test_a_link_out_of_the_folder_is_refused(registry: Registry, tmp_path: Path) -> None:
    path = registry(a=({}, [ALPACA]))
    outside = tmp_path.parent / "outside.json"
    (tmp_path / "a.json").replace(outside)
    (tmp_path / "a.json").symlink_to(outside)
    with pytest.raises(DataError, match="leads out of the folder"):
        _build(path, "a")


@pytest.mark.parametrize(("more", "match"), [
    ({}, r"needs data\.dataset=<dataset>; it has sums"),
    ({"dataset": ["sum"]}, r"data\.dataset=sum: .* has no dataset of that name\. Did you mean sums"),
    ({"dataset": ["sums", "sums"]}, "names a dataset twice"),
    ({"dataset": ["sums"], "columns": {"text": "x"}}, r"leave data\.columns out"),
    ({"dataset": ["sums"], "val_path": ["x.json"]}, r"leave data\.val_path out"),
    ({"dataset": ["sums"], "path": ["no-folder"]}, r"data\.path is the folder of its files"),
    ({"dataset": ["sums"], "weights": [1.0, 2.0]}, r"data\.weights has 2 numbers, but data\.dataset has 1"),
])
def test_a_wrong_request_is_refused(registry: Registry, more: dict[str, Any], match: str) -> None:
    path = registry(sums=({}, [ALPACA]))
    with pytest.raises(DataError, match=match):
        build_source(File(registry=str(path), **more), stage="sft", seed=1)


@pytest.mark.parametrize("text", ["[1]", "{", '{"a": 1}', "{}"])
def test_a_file_that_is_no_registry_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "dataset_info.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"data\.registry=.*dataset_info\.json"):
        _build(tmp_path, "a")


def test_a_name_without_a_registry_is_refused() -> None:
    with pytest.raises(DataError, match=r"data\.dataset needs data\.registry"):
        build_source(File(path=["x.json"], dataset=["a"]), stage="sft", seed=1)


@pytest.mark.skipif(not (REAL / "dataset_info.json").is_file(), reason="needs the real data")
@pytest.mark.parametrize(("name", "stage"), [
    ("identity", "sft"), ("alpaca_en_demo", "sft"), ("glaive_toolcall_en_demo", "sft"), ("dpo_en_demo", "dpo"),
    ("kto_en_demo", "kto"), ("wiki_demo", "pt"), ("c4_demo", "pt"),
])
def test_the_demo_data_read_by_name_are_those_read_as_files(name: str, stage: str) -> None:
    named = _build(REAL, name, stage=stage)
    columns = {"label": "label"} if stage == "kto" else {}
    plain = build_source(File(path=[str(named.files[0])], columns=columns), stage=stage, seed=1)
    assert named.check().good == plain.check().good > 0
    assert named.checked is not None
    assert plain.checked is not None
    assert named.checked.seal.hex() == plain.checked.seal.hex()
