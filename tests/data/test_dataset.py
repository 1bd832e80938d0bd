"""What becomes of every record: cut, dropped with its place, split, weighted, packed; and the numbers add up."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fulgurite.data.build import build_source
from fulgurite.data.config import File, Packing, TooLong
from fulgurite.data.dataset import IGNORE, TokenDataset, split_dataset
from fulgurite.data.report import DataReport
from fulgurite.data.template import load_template
from fulgurite.data.tokenized import TokenizedData, tokenize_source
from fulgurite.errors import DataError

Write = Callable[[str, Any], Path]
Split = tuple[TokenDataset, TokenDataset | None, DataReport]


def alpaca(count: int, words: Callable[[int], int] = lambda n: n % 9 + 1) -> list[dict[str, Any]]:
    return [{"instruction": f"q {n}", "output": "a " * words(n)} for n in range(count)]


@pytest.fixture
def cut(tokenizer: Any, tmp_path: Path) -> Callable[..., Split]:
    """`cut(paths, max_length, packing, stage, **knobs)`."""

    def make(
        paths: list[Path], max_length: int = 1000, packing: Packing = Packing.none, stage: str = "sft", seed: int = 1,
        **more: Any
    ) -> Split:
        config = File(path=[str(p) for p in paths], **more)
        template = load_template(None, tokenizer, None, config.special_tokens)
        made = tokenize_source(
            build_source(config, stage=stage, seed=seed), tokenizer, template, config, tmp_path / "cache"
        )
        return split_dataset(made, config, seed, max_length, packing)

    return make


def places(rows: TokenDataset | None) -> list[str]:
    return [p.rpartition("/")[2] for i in range(len(rows)) for p in rows.places(i)] if rows is not None else []


def whole(encoded: TokenizedData, i: int) -> tuple[list[int], list[int]]:
    """Tokens of an example, and the targets by hand."""
    ids, learn = encoded.tokens(i, 0, int(encoded.lengths[i]))
    return ids.tolist(), [int(ids[t + 1]) if t + 1 < len(ids) and learn[t + 1] else IGNORE for t in range(len(ids))]


def test_targets_are_the_next_learned_tokens(write: Write, cut: Any, tokenizer: Any) -> None:
    rows, val, _ = cut([write("a.jsonl", alpaca(5))], val_fraction=0.0)
    assert val is None
    for i in range(5):
        row = rows[i]
        ids, targets = whole(rows.encoded, i)
        assert (row.input_ids.tolist(), row.targets.tolist()) == (ids, targets)
        assert row.position_ids.tolist() == list(range(len(ids)))
        assert row.input_ids.dtype == row.targets.dtype == row.position_ids.dtype == np.int64
        learned = tokenizer.decode([t for t in targets if t != IGNORE])
        assert learned == "a " * (i + 1) + "<|im_end|>"
        assert (int(rows.lengths[i]), int(rows.label_counts[i])) == (len(ids), sum(t != IGNORE for t in targets))


# -- packing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stage", "length"), [("sft", 64), ("sft", 200), ("pt", 8), ("pt", 33), ("pt", 500)])
def test_packing_keeps_every_token_and_every_label_and_never_overfills(
    stage: str, length: int, write: Write, cut: Any
) -> None:
    running = "".join("Paris is a colour. " * (n % 13 + 1) + "\n" for n in range(80))
    path = write("a.jsonl", alpaca(80)) if stage == "sft" else write("a.txt", running)
    loose, _, _ = cut([path], length, Packing.none, stage, val_fraction=0.0)
    packed, _, report = cut([path], length, Packing.best_fit, stage, val_fraction=0.0)
    assert int(packed.lengths.max()) <= length
    assert int(packed.label_counts.sum()) == int(loose.label_counts.sum())
    assert Counter(pairs(packed)) == Counter(pairs(loose))
    assert sorted(places(packed)) == sorted(places(loose))
    assert report.packing_gain == pytest.approx(len(loose) / len(packed))
    assert len(packed) < len(loose) or length == 8


def pairs(rows: TokenDataset) -> list[tuple[int, int, int]]:
    """Token, target and position of every place in every row."""
    made = [rows[i] for i in range(len(rows))]
    return [p for r in made
        for p in zip(r.input_ids.tolist(), r.targets.tolist(), r.position_ids.tolist(), strict=True)]


def test_nothing_is_learned_across_a_border_and_positions_start_again(write: Write, cut: Any) -> None:
    rows, _, _ = cut([write("a.jsonl", alpaca(40))], 100, Packing.best_fit, val_fraction=0.0)
    several = 0
    for i in range(len(rows)):
        row = rows[i]
        starts = [t for t, p in enumerate(row.position_ids.tolist()) if p == 0]
        several += len(starts) > 1
        assert len(starts) == len(rows.places(i))
        assert all(row.targets[s - 1] == IGNORE for s in starts[1:])
        ends = [*starts[1:], len(row.input_ids)]
        for begin, end in zip(starts, ends, strict=True):
            assert row.position_ids[begin:end].tolist() == list(range(end - begin))
    assert several > 5


@pytest.mark.parametrize("length", [8, 9, 20, 64])
def test_a_long_document_is_cut_and_every_token_but_the_first_is_predicted_once(
    length: int, write: Write, cut: Any
) -> None:
    path = write("a.txt", "Paris is the capital of France. " * 20 + "\n" + "Hello\n")
    rows, _, report = cut([path], length, stage="pt", val_fraction=0.0)
    encoded = rows.encoded
    for number in range(2):
        ids, _ = whole(encoded, number)
        mine = [i for i in range(len(rows)) if rows.places(i)[0].endswith(f":{number + 1}")]
        assert all(rows.lengths[i] <= length for i in mine)
        assert [t for i in mine for t in rows[i].targets.tolist() if t != IGNORE] == ids[1:]
    assert report.pieces == len(rows) - 2
    assert report.dropped == {}


# -- too long ---------------------------------------------------------------------------------------------------------


def test_too_long_is_dropped_with_its_place(write: Write, cut: Any) -> None:
    rows, _, report = cut([write("a.jsonl", alpaca(30, lambda n: 60 if n in (3, 7) else 2))], 40, val_fraction=0.0)
    assert {r: (d.count, [p.rpartition("/")[2] for p in d.places]) for r, d in report.dropped.items()} == {
        "longer than data.max_length": (2, ["a.jsonl:4", "a.jsonl:8"])
    }
    assert len(rows) == report.trained == 28
    assert "2 dropped (longer than data.max_length" in str(report.describe())


def test_too_long_is_truncated_counted_and_ends_without_an_end(write: Write, cut: Any, tokenizer: Any) -> None:
    path = write("a.jsonl", alpaca(30, lambda n: 60 if n in (3, 7) else 2))
    rows, _, report = cut([path], 40, val_fraction=0.0, too_long=TooLong.truncate)
    assert (len(rows), report.truncated, report.truncated_share) == (30, 2, 2 / 30)
    ids, _ = whole(rows.encoded, 3)
    assert rows[3].input_ids.tolist() == ids[:40]
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") not in rows[3].targets
    assert "2 truncated to 40 tokens" in str(report.describe())


def test_too_long_is_an_error_with_place_count_and_remedy(write: Write, cut: Any) -> None:
    said = r"a\.jsonl:4: the example has \d+ tokens, more than data\.max_length=40 \(and 1 more\); raise it to \d+, or"
    with pytest.raises(DataError, match=said):
        cut([write("a.jsonl", alpaca(30, lambda n: 60 if n in (3, 7) else 2))], 40, too_long=TooLong.error)


def test_what_has_nothing_left_to_learn_is_dropped_and_counted(write: Write, cut: Any) -> None:
    rows = [*alpaca(5), {"instruction": "word " * 50, "output": "a"}]
    _, _, report = cut([write("a.jsonl", rows)], 30, val_fraction=0.0, too_long=TooLong.truncate)
    assert {r: d.count for r, d in report.dropped.items()} == {"no token left to learn": 1}
    assert report.balanced


def test_nothing_left_to_train_on_is_an_error(write: Write, cut: Any) -> None:
    with pytest.raises(
        DataError, match=r"no example is left for training; 5 records: 5 dropped \(longer than data\.max_length"
    ):
        cut([write("a.jsonl", alpaca(5))], 8)


def test_an_answer_with_the_text_of_an_end_token_is_dropped_and_counted(write: Write, cut: Any) -> None:
    rows = [*alpaca(5), {"instruction": "q", "output": "a <|im_end|> b"}]
    _, _, report = cut([write("a.jsonl", rows)], val_fraction=0.0, special_tokens="keep")
    found = {reason: d.places[0].rpartition("/")[2] for reason, d in report.dropped.items()}
    assert found == {"an answer contains the text of an end token": "a.jsonl:6"}


# -- validation, samples, weights -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "fraction", "expected"), [
    (1000, 0.05, 50), (1000, 0.001, 20), (100, 0.05, 20), (30, 0.05, 15), (3, 0.05, 1), (1, 0.05, 0), (100, 0.0, 0),
    (2500, 0.6, 1000),
])
def test_validation_is_a_share_within_bounds(
    count: int, fraction: float, expected: int, write: Write, cut: Any
) -> None:
    rows, val, report = cut([write("a.jsonl", alpaca(count))], val_fraction=fraction)
    assert (0 if val is None else len(val)) == report.validation == expected
    assert len(rows) == count - expected
    assert sorted(places(rows) + places(val), key=lambda p: int(p.partition(":")[2])) == [f"a.jsonl:{n + 1}"
        for n in range(count)]


def test_the_split_and_the_sample_hang_on_the_seed_alone(write: Write, cut: Any) -> None:
    path = write("a.jsonl", alpaca(200))
    one, again, other = (cut([path], seed=seed, max_samples=50) for seed in (1, 1, 2))
    assert places(one[0]) == places(again[0])
    assert places(one[1]) == places(again[1])
    assert places(one[1]) != places(other[1])
    assert one[2].not_drawn == 150
    assert len(one[0]) + len(one[1]) == 50
    lines = [int(p.partition(":")[2]) for p in places(one[0])]
    assert max(lines) > 100, "a sample, not the first rows"


def test_validation_files_of_their_own(write: Write, cut: Any) -> None:
    a, b = write("a.jsonl", alpaca(50)), write("b.jsonl", alpaca(7))
    rows, val, report = cut([a], val_path=[str(b)], max_samples=10)
    assert places(val) == [f"b.jsonl:{n}" for n in range(1, 8)]
    assert {p.partition(":")[0] for p in places(rows)} == {"a.jsonl"}
    assert (len(rows), report.validation, report.not_drawn, report.rows_in) == (10, 7, 40, 57)
    assert report.balanced


def test_weights_repeat_and_thin_files(write: Write, cut: Any) -> None:
    paths = [write(f"{name}.jsonl", alpaca(40)) for name in "abcd"]
    rows, _, report = cut(paths, weights=[2.5, 1.0, 0.25, 0.0], val_fraction=0.0)
    seen = Counter(p.partition(".")[0] for p in places(rows))
    assert seen == {"a": 100, "b": 40, "c": 10}
    per_record = Counter(p for p in places(rows) if p.startswith("a"))
    assert Counter(per_record.values()) == {2: 20, 3: 20}
    assert (report.trained, report.not_weighted, report.seen_an_epoch, report.rows_in) == (90, 70, 150, 160)
    assert report.balanced
    with pytest.raises(DataError, match=r"data\.weights leave no example for training"):
        cut(paths[:1], weights=[0.0])


def test_one_weight_for_a_pattern_counts_for_all_its_files(write: Write, cut: Any, tmp_path: Path) -> None:
    for name in ("x/a.jsonl", "x/b.jsonl", "c.jsonl"):
        write(name, alpaca(10))
    rows, _, _ = cut([tmp_path / "x" / "*.jsonl", tmp_path / "c.jsonl"], weights=[2.0, 1.0], val_fraction=0.0)
    assert Counter(p.partition(".")[0] for p in places(rows)) == {"a": 20, "b": 20, "c": 10}


# -- the report -------------------------------------------------------------------------------------------------------


def test_a_thousand_rows_with_37_bad_ones_of_five_kinds_balance(write: Write, cut: Any, tmp_path: Path) -> None:
    rows: list[Any] = alpaca(1000, lambda n: 100 if n % 50 == 1 else n % 5 + 1)
    kinds: list[Any] = [
        {"instruction": "q"}, {"instruction": "q", "output": " "}, {"instruction": {}, "output": "a"}, "text",
        {"output": "a", "instruction": "a\0"},
    ]
    for n in range(37):
        rows[n * 27] = kinds[n % 5]
    path = write("a.jsonl", rows)
    with pytest.raises(DataError, match=r"\(and 36 more bad records\)"):
        cut([path])
    _, _, report = cut([path], 60, max_drop=37, max_samples=500)
    (tmp_path / "data_report.json").write_text(report.text(), encoding="utf-8")
    body = json.loads((tmp_path / "data_report.json").read_text())
    reasons = body["dropped_by_reason"]
    parts = sum(body[name] for name in ("trained", "validation", "not_drawn", "not_weighted"))
    assert body["rows_in"] == 1000 == parts + sum(reasons.values())
    assert sum(count for reason, count in reasons.items() if reason.startswith("bad record")) == 37
    assert len([r for r in reasons if r.startswith("bad record")]) == 5
    listed = [p for reason, d in body["dropped"].items() if reason.startswith("bad record") for p in d["places"]]
    assert sorted(int(p.rpartition(":")[2]) for p in listed) == [n * 27 + 1 for n in range(37)]
    assert reasons["longer than data.max_length"] == sum(1 for n in range(1000) if n % 50 == 1 and n % 27)
    assert (body["format"], body["trained"] + body["validation"]) == ("alpaca", 500)
    assert sum(body["lengths"].values()) == 963
    assert 0 < body["label_share"] < 1
    assert body["tokens"] > body["label_tokens"] > 0


@pytest.mark.parametrize("packing", [Packing.none, Packing.best_fit])
def test_the_report_balances_with_everything_at_once(packing: Packing, write: Write, cut: Any) -> None:
    paths = [write("a.jsonl", alpaca(120, lambda n: 80 if n % 10 == 0 else 3)), write("b.json", [{"messages": [
        {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "label": True}] * 30)]
    rows, val, report = cut(paths, 50, packing, weights=[0.5, 2.0], max_samples=60)
    assert report.balanced
    assert report.format == "alpaca, openai"
    assert report.unread_fields == {"label": 30}
    assert report.seen_an_epoch == len(places(rows))
    assert report.validation == len(places(val)) == 20
    assert len(rows) == report.rows_an_epoch


def test_the_histogram_counts_every_example(write: Write, cut: Any) -> None:
    _, _, report = cut([write("a.jsonl", alpaca(3, lambda n: [1, 40, 100][n]))], val_fraction=0.0)
    assert sum(report.lengths.values()) == 3
    assert all(int(top) & (int(top) - 1) == 0 for top in report.lengths)


# -- a registry's num_samples --------------------------------------------------------------------------------------


def _register(tmp_path: Path, write: Write, limit: int) -> dict[str, Any]:
    for name in ("a", "b"):
        write(f"{name}.jsonl", alpaca(100))
    entries = {"a": {"file_name": "a.jsonl", "num_samples": limit}, "b": {"file_name": "b.jsonl"}}
    registry = write("dataset_info.json", "")
    registry.write_text(json.dumps(entries), encoding="utf-8")
    return {"registry": str(registry), "dataset": ["a", "b"], "val_fraction": 0.0}


def test_num_samples_draws_from_its_file_alone(write: Write, cut: Any, tmp_path: Path) -> None:
    given = _register(tmp_path, write, 30)
    one, again, other = (cut([], seed=seed, **given) for seed in (1, 1, 2))
    assert Counter(place.partition(":")[0] for place in places(one[0])) == {"a.jsonl": 30, "b.jsonl": 100}
    assert places(one[0]) == places(again[0]) != places(other[0])
    assert one[2].not_drawn == 70
    assert one[2].balanced


def test_num_samples_above_the_file_is_refused(write: Write, cut: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset_info\.json: a: num_samples is 101, but .*a\.jsonl has 100 examples"):
        cut([], **_register(tmp_path, write, 101))
