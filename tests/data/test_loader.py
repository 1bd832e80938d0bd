"""Micro-batches: padding that changes nothing, exact counts, a position from which a resumed run goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fulgurite.config.compose import compose
from fulgurite.config.schema import build as build_option
from fulgurite.data.build import build_source
from fulgurite.data.config import File, Packing
from fulgurite.data.dataset import TokenDataset, split_dataset
from fulgurite.data.loader import build_train_loader, build_val_loader
from fulgurite.data.sampler import StepSampler
from fulgurite.data.template import load_template
from fulgurite.data.tokenized import tokenize_source

Write = Callable[[str, Any], Path]


@pytest.fixture
def rows(write: Write, tokenizer: Any, tmp_path: Path) -> Callable[[Packing], TokenDataset]:
    """23 rows, or fewer when packed."""

    def make(packing: Packing = Packing.none) -> TokenDataset:
        path = write("a.jsonl", [{"instruction": f"q {n}", "output": "a " * (n % 11 + 1)} for n in range(23)])
        config = File(path=[str(path)], val_fraction=0.0)
        made = tokenize_source(
            build_source(config, stage="sft", seed=1),
            tokenizer,
            load_template(None, tokenizer),
            config,
            tmp_path / "cache",
        )
        return split_dataset(made, config, 1, 120, packing)[0]

    return make


def order(rows: TokenDataset, processes: int = 1, rank: int = 0) -> StepSampler:
    return StepSampler(rows.lengths, 5, 2, processes, rank, 3, True)


def ids(loader: Any) -> list[list[int]]:
    return [batch["rows"] for batch in loader]


@pytest.mark.parametrize("packing", [Packing.none, Packing.best_fit])
@pytest.mark.parametrize("workers",
    [0, pytest.param(2, marks=pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"))])
def test_stop_at_every_step_of_three_epochs_and_go_on(packing: Packing, workers: int, rows: Any) -> None:
    made = rows(packing)
    per_epoch = order(made).steps_per_epoch
    whole = [cut for step in range(3 * per_epoch) for cut in order(made).list_micro_batches(step)]
    each = order(made).micro_batches_per_step
    for stop in range(3 * per_epoch) if workers == 0 else [0, 1, 3 * per_epoch - 1]:
        position = stop
        loader = build_train_loader(made, order(made), lambda: position, workers=workers)  # noqa: B023
        assert len(loader) == per_epoch * each
        seen: list[list[int]] = []
        while position < 3 * per_epoch:
            epoch = ids(loader)
            seen += epoch
            position += len(epoch) // each
        assert seen == whole[stop * each :]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_worker_leaves_signals_to_the_main_process(rows: Any) -> None:
    """A terminal, `timeout` and job schedulers signal the whole group: the step still gets its batches and is saved."""
    made = rows()
    expected = ids(build_train_loader(made, order(made), lambda: 0))
    batches = iter(build_train_loader(made, order(made), lambda: 0, workers=1))
    seen = [next(batches)["rows"]]
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM):
        os.kill(batches._workers[0].pid, number)  # type: ignore[attr-defined]
    assert seen + [batch["rows"] for batch in batches] == expected


def test_a_batch_is_its_rows_padded_on_the_right(rows: Any) -> None:
    made = rows()
    for batch in build_train_loader(made, order(made), lambda: 0):
        wanted = {
            "input_ids", "targets", "step_targets", "rows", "tokens", "lengths", "label_positions", "units",
        }
        assert set(batch) - {"unpadded"} == wanted, "no mask, and no positions where none are packed"
        assert batch["input_ids"].shape == batch["targets"].shape
        assert batch["input_ids"].shape[0] == len(batch["rows"])
        for line, n in enumerate(batch["rows"]):
            length = int(made.lengths[n])
            assert batch["input_ids"][line, :length].tolist() == made[n].input_ids.tolist()
            assert batch["targets"][line, :length].tolist() == made[n].targets.tolist()
            assert (batch["targets"][line, length:] == -100).all()
        assert batch["lengths"].tolist() == [int(made.lengths[n]) for n in batch["rows"]]
        assert batch["tokens"] == sum(batch["lengths"].tolist())
        flat = batch["targets"].flatten()
        assert batch["label_positions"].tolist() == [n for n, target in enumerate(flat.tolist()) if target != -100]
        assert batch["units"] == len(batch["label_positions"])


def test_packed_rows_come_with_their_documents_and_padding_is_one_more(rows: Any) -> None:
    made = rows(Packing.best_fit)
    for batch in build_train_loader(made, order(made), lambda: 0):
        expected, longest = [], batch["input_ids"].shape[1]
        for n in batch["rows"]:
            pieces = made.pieces[made.starts[n] : made.starts[n + 1]]
            expected += [int(end - begin) for _, begin, end in pieces]
            expected += [longest - int(made.lengths[n])] if made.lengths[n] < longest else []
        assert batch["documents"].lengths == tuple(expected)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_the_step_s_labels_are_counted_over_all_ranks_and_micro_batches(processes: int, rows: Any) -> None:
    made = rows()
    orders = [order(made, processes, r) for r in range(processes)]
    batches = [list(build_train_loader(made, o, lambda: 0)) for o in orders]
    each = orders[0].micro_batches_per_step
    for step in range(orders[0].steps_per_epoch):
        mine = [b for rank in batches for b in rank[step * each : (step + 1) * each]]
        labels = sum(int((b["targets"] != -100).sum()) for b in mine)
        assert {b["step_targets"] for b in mine} == {labels}
    assert sorted(n for rank in batches for b in rank for n in b["rows"]) == list(range(len(made)))


def test_an_empty_micro_batch_has_no_rows(rows: Any) -> None:
    made = rows()
    last = list(build_train_loader(made, order(made, processes=2, rank=0), lambda: order(made).steps_per_epoch - 1))
    empty = [b for b in last if not b["rows"]]
    assert empty
    assert all(b["input_ids"].shape == (0, 0) and b["tokens"] == 0 and b["step_targets"] > 0 for b in empty)


@pytest.mark.parametrize(("processes", "micro"), [(1, 1), (1, 4), (2, 2), (3, 5), (2, 100)])
def test_validation_sees_each_row_once(processes: int, micro: int, rows: Any) -> None:
    made = rows()
    loaders = [build_val_loader(made, micro, processes, rank) for rank in range(processes)]
    batches = [list(loader) for loader in loaders]
    assert len({len(rank) for rank in batches}) == 1  # a process without a batch would be left out of the evaluation
    assert sorted(n for rank in batches for b in rank for n in b["rows"]) == list(range(len(made)))
    for b in (b for rank in batches for b in rank):
        lengths = [int(made.lengths[n]) for n in b["rows"]]
        assert lengths == sorted(lengths)
        assert len(lengths) <= micro


def test_a_filler_takes_the_place_of_an_empty_micro_batch_and_counts_nothing(rows: Any) -> None:
    made = rows()
    plain, filled = (
        [
            *(b for rank in (0, 1) for b in build_train_loader(made, order(made, 2, rank), lambda: 0, fill=fill)),
            *(b for rank in (0, 4) for b in build_val_loader(made, 2, 5, rank, fill=fill)),
        ]
        for fill in (False, True)
    )
    assert sum(not batch["rows"] for batch in plain) > 1
    for before, after in zip(plain, filled, strict=True):
        assert all(before[name] == after[name] for name in ("rows", "tokens", "step_targets"))
        assert ("filler" in after) == (not before["rows"])
        if "filler" in after:
            assert after["input_ids"].shape == (1, int(made.lengths.min()))


def test_a_token_of_one_packed_document_never_changes_another_s_logits(rows: Any) -> None:
    made = rows(Packing.best_fit)
    run = compose(["model=tiny", "precision=fp32"]).run
    model = build_option(run.model, torch.float32).model.eval()
    batch = next(iter(build_val_loader(made, 2)))
    positions = batch["position_ids"]
    assert (positions == 0).sum() > len(batch["rows"]), "several documents a row"
    second = int((positions[0] == 0).nonzero()[1])
    changed = batch["input_ids"].clone()
    changed[0, 1] = (changed[0, 1] + 1) % 300
    with torch.no_grad():
        before, after = (model(input_ids=i, position_ids=positions, use_cache=False).logits
            for i in (batch["input_ids"], changed))
    assert torch.equal(before[0, second:], after[0, second:])
    assert not torch.equal(before[0, 1:second], after[0, 1:second])


def test_packed_and_padded_rows_have_the_loss_of_single_ones(rows: Any) -> None:
    run = compose(["model=tiny", "precision=fp32"]).run
    model = build_option(run.model, torch.float32).model.eval()

    def total(loader: Any) -> float:
        found = 0.0
        for batch in loader:
            with torch.no_grad():
                logits = model(
                    input_ids=batch["input_ids"], position_ids=batch.get("position_ids"), use_cache=False
                ).logits
            targets = batch["targets"].flatten()
            found += float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets, ignore_index=-100,
                reduction="sum"))
        return found

    single = total(build_val_loader(rows(), 1))
    assert total(build_val_loader(rows(), 7)) == pytest.approx(single, rel=1e-6)
    assert total(build_val_loader(rows(Packing.best_fit), 3)) == pytest.approx(single, rel=1e-6)
