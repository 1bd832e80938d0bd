"""Pairs and judged answers as tokens: both sides are cut alike or not at all, and only answers are targets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.data.made_records import Write
from tests.data.preference_records import PAIR

from fulgurite.data import preference_dataset as compared_rows
from fulgurite.data.build import build_source
from fulgurite.data.config import File, Packing
from fulgurite.data.dataset import split_dataset
from fulgurite.data.loader import Ahead, build_train_loader, build_val_loader, collate_longest
from fulgurite.data.preference_dataset import PreferenceDataset, collate_mismatched, collate_preferences
from fulgurite.data.sample_prompts import choose_sample_prompts
from fulgurite.data.sampler import StepSampler, pair_mismatched
from fulgurite.data.template import load_template
from fulgurite.data.tokenized import tokenize_source
from fulgurite.errors import DataError

# --- tokens, cuts, batches


@pytest.fixture
def made(write: Write, tokenizer: Any, tmp_path: Path) -> Callable[..., Any]:
    """`made(records, stage, max_length, **config)`: rows, validation rows, the report, the template and the source."""

    def make(records: list[dict[str, Any]], stage: str = "dpo", max_length: int = 200, **more: Any) -> Any:
        config = File(path=[str(write("a.jsonl", records))], **{"val_fraction": 0.0, **more})
        source, template = build_source(config, stage=stage, seed=1), load_template(None, tokenizer)
        encoded = tokenize_source(source, tokenizer, template, config, tmp_path / "cache")
        rows, val, report = split_dataset(encoded, config, 1, max_length, Packing.none)
        assert report.balanced
        return rows, val, report, template, source

    return make


def records(count: int) -> list[dict[str, Any]]:
    return [{"prompt": f"question {n}", "chosen": "good " * (n % 5 + 1), "rejected": "bad " * (n % 3 + 1)}
        for n in range(count)]


def test_each_side_is_the_prompt_and_the_answer_as_at_inference(made: Any) -> None:
    rows, _, _, template, source = made([*records(7), {**PAIR, "system": "be brief"}])
    for i, example in enumerate(source.examples()):
        for (ids, start), messages in zip(rows.sides(i), (example.messages, example.rejected), strict=True):
            whole, learn = template.encode_chat(messages, "last")
            assert ids.tolist() == whole[: len(whole) - learn[::-1].index(True)]
            assert ids[:start].tolist() == template.encode_prompt(messages[:-1])
            assert ids[-1] in template.stop_ids
    assert isinstance(rows, PreferenceDataset)


def test_a_batch_has_the_chosen_sides_first_and_only_answers_as_targets(made: Any) -> None:
    rows, *_ = made([{**r, "margin": n} for n, r in enumerate(records(6))], "rm")
    batch = collate_preferences(rows, [4, 1])
    assert batch["input_ids"].shape[0] == 4
    assert batch["margins"].tolist() == [4.0, 1.0]
    for i, (row, side) in enumerate([(4, 0), (1, 0), (4, 1), (1, 1)]):
        ids, start = rows.sides(row)[side]
        assert batch["input_ids"][i, : len(ids)].tolist() == ids.tolist()
        assert batch["lengths"][i] == len(ids)
        targets = batch["targets"][i].tolist()
        assert targets[start - 1 : len(ids) - 1] == ids[start:].tolist()
        assert set(targets[: start - 1] + targets[len(ids) - 1 :]) == {-100}


def test_what_both_sides_share_ends_before_the_first_token_that_predicts_an_answer(made: Any) -> None:
    rows, *_ = made(records(6))
    batch = collate_preferences(rows, [4, 1, 2])
    shared = batch["shared"]
    assert shared == min(start for n in (4, 1, 2) for _, start in rows.sides(n)) - 1 > 0
    assert torch.equal(batch["input_ids"][:3, :shared], batch["input_ids"][3:, :shared])
    assert bool((batch["targets"][:, :shared] == -100).all())
    assert bool((batch["targets"][:, shared] != -100).any())
    assert collate_preferences(rows, [])["shared"] == 0
    assert collate_longest(
        rows, 2, Ahead.nothing, 0
    )["shared"] == 0  # the most that a micro-batch may hold spares nothing


def test_sides_that_differ_share_nothing() -> None:
    ids = np.arange(9)
    sides = [[(ids, 5), (ids, 6)], [(ids, 5), (np.array([0, 1, 7, 3, 4, 5, 6]), 5)]]
    assert compared_rows._count_shared(sides[:1]) == 4
    assert compared_rows._count_shared(sides) == 0


def test_a_pair_that_is_too_long_is_dropped_whole_and_counted(made: Any) -> None:
    long = {"prompt": "question", "chosen": "good", "rejected": "bad " * 90}
    rows, _, report, *_ = made([*records(5), long], max_length=60)
    assert len(rows) == 5
    assert report.dropped["longer than data.max_length"].count == 1
    assert report.dropped["longer than data.max_length"].places[0].endswith("a.jsonl:6")


def test_truncation_cuts_the_same_tokens_of_the_prompt_from_both_sides(made: Any) -> None:
    talk = {"prompt": "word " * 60, "chosen": "good answer", "rejected": "bad " * 8}
    whole, *_ = made([talk], max_length=1000)
    most = int(whole.lengths[0]) - 20
    cut, _, report, *_ = made([talk], max_length=most, too_long="truncate")
    for (before, start), (after, begin) in zip(whole.sides(0), cut.sides(0), strict=True):
        assert after.tolist() == before[20:].tolist()
        assert begin == start - 20
    assert (report.truncated, report.trained) == (1, 1)
    hopeless = {"prompt": "word", "chosen": "good", "rejected": "bad " * 200}
    rows, _, report, *_ = made([talk, hopeless], max_length=most, too_long="truncate")
    assert len(rows) == 1
    assert report.dropped["an answer alone is longer than data.max_length"].count == 1
    with pytest.raises(DataError, match=r"a\.jsonl:1: the example has \d+ tokens, more than data.max_length="):
        made([talk], max_length=most, too_long="error")


def test_validation_pairs_are_never_trained_on(made: Any) -> None:
    rows, val, report, *_ = made(records(60), val_fraction=0.2)
    assert (len(rows), len(val), report.trained, report.validation) == (40, 20, 40, 20)
    assert not set(rows.numbers) & set(val.numbers)
    assert rows.units.tolist() == [1] * 40


def judged_rows(made: Any, count: int) -> Any:
    return made([{"prompt": r["prompt"], "completion": r["chosen"], "label": n % 3 == 0} for n,
        r in enumerate(records(count))], "kto")


def test_judged_answers_carry_their_label(made: Any) -> None:
    rows, *_ = judged_rows(made, 7)
    batch = collate_preferences(rows, range(7))
    assert batch["good"].tolist() == [n % 3 == 0 for n in range(7)]
    assert batch["shared"] == 0


def test_a_mismatched_pair_is_one_prompt_with_anothers_answer(made: Any) -> None:
    rows, *_ = judged_rows(made, 7)
    batch = collate_mismatched(rows, [(2, 5)], most=1000)
    (own, start), (other, begin) = rows.sides(2)[0], rows.sides(5)[0]
    assert batch["input_ids"][0].tolist() == [*own[:start], *other[begin:]]
    assert batch["targets"][0].tolist() == [-100] * (start - 1) + other[begin:].tolist() + [-100]
    short = collate_mismatched(rows, [(2, 5)], most=start + 2)
    assert short["input_ids"][0].tolist() == [*own[:start], *other[begin : begin + 2]]


def test_a_row_keeps_its_prompt_s_identity_if_the_prompt_is_cut(made: Any) -> None:
    asked = [{"prompt": q + " word" * 30, "completion": f"answer{' word' * n}", "label": True} for n in range(0, 9, 4)
        for q in ("a", "b")]
    rows, _, report, *_ = made(asked, "kto", max_length=60, too_long="truncate")
    assert report.truncated > 0
    prompts = [rows.prompt(i) for i in range(len(rows))]
    assert (len(rows), len(set(prompts))) == (6, 2)
    assert [p == prompts[0] for p in prompts] == [n % 2 == 0 for n in range(6)]
    (batch,) = build_val_loader(rows, 6, ahead=Ahead.mismatched)
    pairs = pair_mismatched(batch["step_rows"], [prompts[n] for n in batch["step_rows"]], ())
    assert {prompts[a] != prompts[b] for a, b in pairs.items()} == {True}
    part = batch["ahead"][0]
    for row, ids, targets in zip(part["rows"], part["input_ids"], part["targets"], strict=True):
        other, begin = rows.sides(pairs[row])[0]
        answer = ids[1:][targets[:-1] >= 0].tolist()
        assert answer == other[begin:].tolist()[: len(answer)]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_step_is_seen_ahead_by_all_processes_together_whatever_the_cut(made: Any, processes: int) -> None:
    rows, *_ = judged_rows(made, 11)

    def seen(micro_batch: int) -> list[tuple[int, ...]]:
        found = []
        for rank in range(processes):
            order = StepSampler(rows.lengths, 5, micro_batch, processes, rank, 3, True)
            for n, batch in enumerate(build_train_loader(rows, order, lambda: 0, ahead=Ahead.mismatched)):
                assert ("ahead" in batch) == (n % order.micro_batches_per_step == 0)
                found += [
                    (n // order.micro_batches_per_step, int(row), *ids[t >= 0].tolist())
                    for part in batch.get("ahead", [])
                    for row, ids, t in zip(part["rows"], part["input_ids"], part["targets"], strict=True)
                ]
                assert batch["step_targets"] in (5, 1)
        return sorted(found)

    whole = seen(5)
    assert len(whole) == 10  # two steps of five; the last step has one row, which has no other to be mismatched with
    assert seen(2) == seen(1) == whole


def test_an_evaluation_is_seen_ahead_as_one_step(made: Any) -> None:
    rows, *_ = made(records(7))
    first, *others = build_val_loader(rows, 2, ahead=Ahead.rows)
    assert sorted(n for part in first["ahead"] for n in part["rows"]) == sorted(first["step_rows"]) == list(range(7))
    assert not any("ahead" in batch for batch in others)
    empty = list(build_val_loader(rows, 7, processes=2, rank=1, ahead=Ahead.rows))
    assert len(empty) == 1
    assert empty[0]["input_ids"].shape == torch.Size([0, 0])
    assert json.dumps(empty[0]["ahead"]) == "[]"


def test_a_pair_in_kto_is_a_good_answer_and_a_bad_one_and_both_are_held_out_or_none(made: Any) -> None:
    rows, val, report, _, source = made(records(60), "kto", val_fraction=0.05)
    assert source.format == "preference"
    assert "they are 60 pairs, each split into a good and a bad answer" in str(source.checked.describe(source))
    assert (report.rows_in, report.pairs_split, report.balanced) == (120, 60, True)
    assert "made of 60 pairs, each split into a good and a bad answer" in str(report.describe())
    examples = list(source.examples())
    assert [e.good for e in examples] == [True, False] * 60
    assert all(first.messages[:-1] == second.messages[:-1] for first,
        second in zip(examples[::2], examples[1::2], strict=True))
    for part in (rows, val):
        lines = [part.places(i)[0] for i in range(len(part))]
        assert all(lines.count(line) == 2 for line in lines)
        assert sum(part.good(i) for i in range(len(part))) == len(part) / 2
    assert len(val) >= 20
    ours, theirs = ({rows_of.places(i)[0] for i in range(len(rows_of))} for rows_of in (rows, val))
    assert not ours & theirs
    asked = choose_sample_prompts(None, source, val)
    assert len({prompt[-1].content for prompt in asked}) == len(asked) == 5
