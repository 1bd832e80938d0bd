"""Tokenised once: the cache misses after a change that matters, hits otherwise, and survives kills and damage."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fulgurite.data import tokenized as module
from fulgurite.data.build import build_source
from fulgurite.data.config import File, Format
from fulgurite.data.template import load_template
from fulgurite.data.tokenized import TokenizedData, tokenize_source
from fulgurite.errors import DataError, RequestError

Write = Callable[[str, Any], Path]
ROWS = [{"instruction": f"question {n}", "output": "answer " * (n % 7 + 1)} for n in range(600)]


def run(
    path: Path, tokenizer: Any, cache: Path, stage: str = "sft", template: str | None = None, **more: Any
) -> TokenizedData:
    config = File(path=[str(path)], **more)
    return tokenize_source(
        build_source(config, stage=stage, seed=1), tokenizer, load_template(template, tokenizer), config, cache
    )


def same(a: TokenizedData, b: TokenizedData) -> bool:
    return a.key == b.key and all(np.array_equal(a.arrays[name], b.arrays[name]) for name in module.ARRAYS)


def test_what_is_stored_is_what_the_template_gives(write: Write, tokenizer: Any, tmp_path: Path) -> None:
    made = run(write("a.jsonl", ROWS), tokenizer, tmp_path)
    template = load_template(None, tokenizer)
    examples = list(made.source.examples())
    assert len(made) == len(ROWS)
    for i in (0, 5, 255, 256, 599):
        ids, learn = template.encode_chat(examples[i].messages, "answers")  # type: ignore[union-attr,arg-type]
        stored = made.tokens(i, 0, int(made.lengths[i]))
        assert (stored[0].tolist(), stored[1].tolist()) == (ids, learn)
        assert made.labels(i, 0, len(ids)) == sum(learn[1:])
        assert (made.place(i).line, made.file(i)) == (i + 1, 0)
    assert made.percentile_99 == int(np.ceil(np.percentile(made.lengths, 99)))


@pytest.mark.parametrize("start", [False, True])
def test_a_document_starts_as_the_tokenizer_starts_texts_and_ends_with_the_end_token(
    start: bool, write: Write, make_tokenizer: Any, tmp_path: Path
) -> None:
    tokenizer = make_tokenizer(start=start)
    made = run(write("a.txt", "Hello there.\n\nParis</s>\n"), tokenizer, tmp_path, stage="pt")
    for i, text in enumerate(("Hello there.", "Paris")):
        ids, learn = made.tokens(i, 0, int(made.lengths[i]))
        words = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert ids.tolist() == [tokenizer.bos_token_id] * start + words + [tokenizer.eos_token_id]
        assert learn.all()


def test_the_same_again_is_a_hit_also_from_another_name(write: Write, tokenizer: Any, tmp_path: Path) -> None:
    first = run(write("a.jsonl", ROWS), tokenizer, tmp_path)
    again = run(write("a.jsonl", ROWS), tokenizer, tmp_path)
    moved = run(write("b/c.jsonl", ROWS), tokenizer, tmp_path)
    assert (first.fresh, again.fresh, moved.fresh) == (True, False, False)
    assert same(first, again)
    assert same(first, moved)
    assert str(moved.place(0)).endswith("c.jsonl:1")


def changed_byte(path: Path, tokenizer: Any, cache: Path, make: Any) -> TokenizedData:
    path.write_bytes(path.read_bytes().replace(b"question 0", b"question O", 1))
    return run(path, tokenizer, cache)


CHANGES: dict[str, Callable[[Path, Any, Path, Any], TokenizedData]] = {
    "one byte of data": changed_byte,
    "tokenizer": lambda path, tokenizer, cache,
    make: run(path, make(["<|im_start|>", "<|im_end|>"], llama3=True), cache),
    "template": lambda path, tokenizer, cache, make: run(path, tokenizer, cache, template="zephyr"),
    "mask": lambda path, tokenizer, cache, make: run(path, tokenizer, cache, mask="all"),
    "columns": lambda path, tokenizer, cache,
    make: run(path, tokenizer, cache, columns={"output": "instruction", "instruction": "output"}),
    "stage": lambda path, tokenizer, cache,
    make: run(path, tokenizer, cache, "pt", format=Format.text, columns={"text": "output"}),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_a_miss(what: str, write: Write, tokenizer: Any, make_tokenizer: Any, tmp_path: Path) -> None:
    path = write("a.jsonl", ROWS)
    first = run(path, tokenizer, tmp_path)
    second = CHANGES[what](path, tokenizer, tmp_path, make_tokenizer)
    assert second.fresh
    assert first.key != second.key


def test_our_version_and_the_layout_are_in_the_key(
    write: Write, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("a.jsonl", ROWS)
    keys = {run(path, tokenizer, tmp_path).key}
    for name, value in (("__version__", "9.9"), ("LAYOUT", 99)):
        monkeypatch.setattr(module, name, value)
        keys.add(run(path, tokenizer, tmp_path).key)
    assert len(keys) == 3


def test_what_is_cut_later_is_not_in_the_key(write: Write, tokenizer: Any, tmp_path: Path) -> None:
    path = write("a.jsonl", ROWS)
    run(path, tokenizer, tmp_path)
    assert not run(path, tokenizer, tmp_path, max_length=16, too_long="truncate", val_fraction=0.5, max_samples=3).fresh


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "empty", "manifest"])
@pytest.mark.parametrize("name", [*module.ARRAYS])
def test_a_damaged_cache_is_made_anew(damage: str, name: str, write: Write, tokenizer: Any, tmp_path: Path) -> None:
    path = write("a.jsonl", ROWS[:20])
    first = run(path, tokenizer, tmp_path)
    folder = tmp_path / "data" / first.key
    whole = {p.name: p.read_bytes() for p in folder.iterdir()}
    file = folder / f"{name}.bin"
    if damage == "flip":
        body = bytearray(file.read_bytes())
        body[len(body) // 2] ^= 1
        file.write_bytes(bytes(body))
    elif damage == "cut":
        os.truncate(file, file.stat().st_size - 1)
    elif damage == "gone":
        file.unlink()
    elif damage == "empty":
        file.write_bytes(b"")
    else:
        (folder / "manifest.json").write_text(json.dumps({name: "0"}))
    again = run(path, tokenizer, tmp_path)
    assert again.fresh
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == whole
    assert [p.name for p in folder.parent.iterdir()] == [first.key]


def in_a_process(path: str, tokenizer: Any, cache: str, slow: float, answer: Any) -> None:
    inner = module.tokenize_examples

    def slowly(*args: Any) -> Any:
        for found in inner(*args):
            time.sleep(slow)
            yield found

    module.tokenize_examples = slowly
    made = run(Path(path), tokenizer, Path(cache))
    answer.put((made.key, made.fresh))


def started(path: Path, tokenizer: Any, cache: Path, slow: float) -> tuple[Any, Any]:
    context = multiprocessing.get_context("fork")
    answer = context.Queue()
    process = context.Process(target=in_a_process, args=(str(path), tokenizer, str(cache), slow, answer))
    process.start()
    return process, answer


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_two_processes_at_once_leave_one_valid_result(write: Write, tokenizer: Any, tmp_path: Path) -> None:
    path = write("a.jsonl", ROWS[:100])
    both = [started(path, tokenizer, tmp_path / "cache", 0.002) for _ in range(2)]
    answers = [answer.get(timeout=60) for _, answer in both]
    for process, _ in both:
        process.join(60)
        assert process.exitcode == 0
    assert len({key for key, _ in answers}) == 1
    assert sorted(fresh for _, fresh in answers) == [False, True]  # one tokenizes, and the other waits for it
    assert not any((tmp_path / "cache" / "locks").iterdir())
    assert [p.name for p in (tmp_path / "cache" / "data").iterdir()] == [answers[0][0]]
    assert not run(path, tokenizer, tmp_path / "cache").fresh


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_killed_build_leaves_nothing_that_is_taken_for_whole(write: Write, tokenizer: Any, tmp_path: Path) -> None:
    path, cache = write("a.jsonl", ROWS[:100]), tmp_path / "cache"
    process, _ = started(path, tokenizer, cache, 0.5)
    deadline = time.monotonic() + 60
    while not list(cache.glob("data/*.tmp-*/ids.bin")):
        assert time.monotonic() < deadline
        process.join(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    draft = next(iter(cache.glob("data/*.tmp-*")))
    clean = run(path, tokenizer, tmp_path / "other")
    again = run(path, tokenizer, cache)
    assert again.fresh
    assert same(again, clean)
    assert draft.exists(), "a fresh draft may be another machine's"
    long_ago = time.time() - 2 * module.STALE
    for file in (*draft.iterdir(), draft):
        os.utime(file, (long_ago, long_ago))
    run(path, tokenizer, cache, mask="all")
    assert not draft.exists()


def test_a_cache_that_cannot_be_written_is_one_line(write: Write, tokenizer: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match=r"cannot be written \(Not a directory\); set FULGURITE_CACHE"):
        run(write("a.jsonl", ROWS[:3]), tokenizer, tmp_path / "file")


def test_a_conversation_that_the_template_refuses_is_named(write: Write, make_tokenizer: Any, tmp_path: Path) -> None:
    said = (("human", "a"), ("function_call", '{"name": "f"}'), ("observation", "1"), ("gpt", "b"))
    turns = [{"from": who, "value": what} for who, what in said]
    path = write("a.json", [{"conversations": turns[:1] + turns[3:]}, {"conversations": turns}])
    with pytest.raises(
        DataError, match=r"a\.json:2: field 'messages': the chat template mistral does not accept .*no role tool"
    ):
        run(path, make_tokenizer(), tmp_path, template="mistral")
    assert len(run(path, make_tokenizer(), tmp_path, template="chatml")) == 2


def test_a_tokenizer_without_an_end_token_cannot_end_documents(write: Write, tokenizer: Any, tmp_path: Path) -> None:
    template = load_template(None, tokenizer)
    tokenizer.eos_token = None
    config = File(path=[str(write("a.txt", "one\n"))])
    with pytest.raises(DataError, match="no end token, which is put after each document"):
        tokenize_source(build_source(config, stage="pt", seed=1), tokenizer, template, config, tmp_path)


def test_template_arguments_are_in_the_key(write: Write, tokenizer: Any, tmp_path: Path) -> None:
    path = write("a.jsonl", ROWS[:20])
    given: list[dict[str, Any]] = [{}, {"enable_thinking": False}, {"enable_thinking": True},
        {"template_arguments": {"effort": "low"}}]
    assert len({run(path, tokenizer, tmp_path, **more).key for more in given}) == len(given)


@pytest.mark.parametrize("also_bad", [False, True])
@pytest.mark.parametrize("when", ["before", "amid"])
def test_a_file_that_grows_after_the_check_is_refused_and_nothing_is_kept(
    when: str, also_bad: bool, write: Write, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, cache = write("a.jsonl", ROWS), tmp_path / "cache"
    before, more = path.read_bytes(), ROWS[:0] if also_bad else ROWS[:40]
    grown = before + "".join(json.dumps(r) + "\n" for r in more).encode() + b'{"instruction": 1}\n' * also_bad
    config = File(path=[str(path)])
    source, inner = build_source(config, stage="sft", seed=1), module.tokenize_examples
    source.check()

    def growing(*args: Any) -> Any:
        path.write_bytes(grown)
        return inner(*args)

    if when == "before":
        path.write_bytes(grown)
    else:
        monkeypatch.setattr(module, "tokenize_examples", growing)
    with pytest.raises(
        DataError, match=r"a\.jsonl changed while it was read: 600 records at the check, 6\d\d after it"
    ):
        tokenize_source(source, tokenizer, load_template(None, tokenizer), config, cache)
    assert list((cache / "data").iterdir()) == []
    path.write_bytes(before)
    monkeypatch.undo()
    assert len(run(path, tokenizer, cache)) == 600


def test_a_file_that_changes_without_growing_is_refused(write: Write, tokenizer: Any, tmp_path: Path) -> None:
    path = write("a.jsonl", ROWS)
    config = File(path=[str(path)])
    source = build_source(config, stage="sft", seed=1)
    source.check()
    path.write_bytes(path.read_bytes().replace(b"question 7", b"question 0", 1))
    with pytest.raises(DataError, match="changed while it was read"):
        tokenize_source(source, tokenizer, load_template(None, tokenizer), config, tmp_path)


def test_half_a_surrogate_pair_that_reaches_the_tokenizer_is_named(tokenizer: Any, tmp_path: Path) -> None:
    from fulgurite.data.example import Example, Message, Place

    call = {"type": "function", "function": {"name": "f", "arguments": {"a": "\ud800"}}}
    good = Example(Place("a.jsonl", 1), (Message("user", "a"), Message("assistant", "b")))
    bad = Example(Place("a.jsonl", 2), (Message("user", "a"), Message("assistant", "", (call,))))
    template = load_template("chatml", tokenizer)
    with pytest.raises(DataError, match=r"a\.jsonl:2: field 'messages': the text contains half of a surrogate pair"):
        list(module.tokenize_examples([good, bad], tokenizer, template, File(), False))
    with pytest.raises(DataError, match=r"a\.jsonl:3: field 'text': the text contains half of a surrogate pair"):
        list(module.tokenize_examples([Example(Place("a.jsonl", 3), text="a \udfff")], tokenizer, template, File(),
            False))


@pytest.mark.parametrize("stage", ["sft", "kto", "dpo", "grpo"])
def test_a_message_far_longer_than_any_row_is_dropped_without_tokenising_it(
    stage: str, write: Write, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fulgurite.data import template as template_module
    from fulgurite.data.dataset import Packing, split_dataset

    monkeypatch.setattr(module, "LONG", module.LONG // 16)  # a sixteenth of each size takes a sixteenth of the time
    huge = "what is this " * 12_500
    records = [{"prompt": f"q {n}", "chosen": "good", "rejected": "bad"} for n in range(3)]
    if stage == "sft":
        records = [{"instruction": f"q {n}", "output": "good"} for n in range(3)]
    if stage == "grpo":
        records = [{"prompt": f"q {n}"} for n in range(3)]
    path = write("a.jsonl", [records[0], {**records[1], **dict.fromkeys(list(records[1])[:1], huge)}, records[2]])
    config = File(path=[str(path)], val_fraction=0.0)
    source, template, seen = build_source(config, stage=stage, seed=1), load_template(None, tokenizer), 0

    def counting(inner: Any, texts: list[str], special: bool) -> Any:
        nonlocal seen
        seen += sum(map(len, texts))
        return original(inner, texts, special)

    original = module.encode_texts
    for place in (module, template_module):
        monkeypatch.setattr(place, "encode_texts", counting)
    encoded = tokenize_source(source, tokenizer, template, config, tmp_path / "cache", 64)
    assert seen < 500_000 // 16
    _, _, report = split_dataset(encoded, config, 1, 64, Packing.none)
    assert report.balanced
    assert [(reason, d.places) for reason, d in report.dropped.items()] == [
        ("longer than data.max_length", [f"{path}:2"] * (2 if stage == "kto" else 1))
    ]
    assert report.trained == (4 if stage == "kto" else 2)
    assert tokenize_source(source, tokenizer, template, config, tmp_path / "cache", 2_000_000).key != encoded.key
