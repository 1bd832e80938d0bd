"""The numbers of a data set, each against a file whose answer is known by hand."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fulgurite.config.compose import compose
from fulgurite.plan.context import DataFacts
from fulgurite.plan.data_stats import _count_without_end
from fulgurite.plan.preflight import build_checked_source
from fulgurite.plan.prepare import Gathered, prepare_run, settle_precision


def gathered(*words: str) -> Gathered:
    composed = compose(["logger=none", "model=tiny", "precision=fp32", *words])
    dtypes = settle_precision(composed.run.precision, composed.run.trainer)
    return prepare_run(composed, build_checked_source(composed), dtypes)


def of(path: Path, records: list[dict[str, Any]], *words: str) -> DataFacts:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    found = gathered("data=file", f"data.path={path}", *words).seen.data
    assert found is not None
    return found


def talk(n: int, answer: str) -> dict[str, Any]:
    return {"instruction": f"question {n}", "output": answer}


def test_conversations_are_counted(tmp_path: Path) -> None:
    records = [talk(n, "yes " * (n % 3 + 1)) for n in range(40)]
    records += [talk(1, "yes " * 2), talk(99, "a long answer " * 60)]
    found = of(tmp_path / "a.jsonl", records, "data.val_fraction=0", "data.max_length=96")
    assert (found.records, found.rows, found.val_rows) == (42, 41, 0)
    assert found.dropped == {"longer than data.max_length": 1}
    assert (found.too_long, found.cut_answers, found.duplicates) == (1, 0, 1)
    assert (found.no_end, found.two_starts, found.empty_labels) == (0, 0, 0)
    assert found.tokens == int(found.row_lengths.sum())
    assert found.label_tokens == int(found.label_lengths.sum())
    assert len(found.lengths) == 42


def test_truncated_examples_are_counted(tmp_path: Path) -> None:
    records = [talk(n, "yes") for n in range(40)] + [talk(99, "a long answer " * 60)]
    found = of(tmp_path / "a.jsonl", records, "data.val_fraction=0", "data.max_length=96", "data.too_long=truncate")
    assert (found.rows, found.too_long, found.cut_answers, found.dropped) == (41, 1, 1, {})


def test_length_bias_is_the_share_of_pairs_with_a_longer_chosen_answer(tmp_path: Path) -> None:
    def pair(n: int, better: str, worse: str) -> dict[str, Any]:
        return {"prompt": f"question {n}", "chosen": better, "rejected": worse}

    records = [pair(n, "yes yes yes yes", "no") for n in range(30)]
    records += [pair(n, "no", "yes yes yes yes") for n in range(30, 40)]
    found = of(tmp_path / "a.jsonl", records, "stage=dpo", "data.val_fraction=0")
    assert found.length_bias == 0.75
    assert (found.same_pairs, found.duplicates) == (0, 0)


def test_judged_answers_are_counted_by_their_judgement(tmp_path: Path) -> None:
    records = [{"prompt": f"question {n}", "completion": "yes", "label": n % 4 == 0} for n in range(40)]
    found = of(tmp_path / "a.jsonl", records, "stage=kto", "data.val_fraction=0")
    assert (found.positives, found.negatives) == (10, 30)


def test_a_document_ends_with_the_end_token_and_is_never_too_long(tmp_path: Path) -> None:
    records = [{"text": f"{n} the rate rises and falls " * 20} for n in range(40)]
    found = of(tmp_path / "a.jsonl", records, "stage=pt", "data.max_length=64")
    assert (found.no_end, found.too_long) == (0, 0)
    assert found.pieces > 0


def test_tokens_come_from_the_cache_the_second_time(tmp_path: Path) -> None:
    records = [talk(n, "something that no other test says") for n in range(40)]
    assert of(tmp_path / "a.jsonl", records).fresh
    assert not of(tmp_path / "a.jsonl", records).fresh


def test_answers_without_an_end_are_counted_the_same_in_portions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut at 48 tokens, a long answer loses its end; the count hangs on no portion's edge."""
    records = [talk(n, "a long answer " * 60 if n % 3 == 0 else "yes") for n in range(20)]
    words = ("data.val_fraction=0", "data.max_length=48", "data.too_long=truncate", "data.mask=all")
    whole = of(tmp_path / "a.jsonl", records, *words).no_end
    for portion in (1, 3, 7):
        monkeypatch.setattr("fulgurite.plan.data_stats.PORTION", portion)
        assert of(tmp_path / "a.jsonl", records, *words).no_end == whole
    by_hand = [0, 3, 5]
    ids, learn, offsets = np.array([5, 2, 1, 5, 5]), np.array([0, 1, 1, 1, 1]), np.array(by_hand)
    assert _count_without_end(
        SimpleNamespace(arrays={"learn": learn}), ids, offsets, [2],
    ) == 1  # type: ignore[arg-type]
