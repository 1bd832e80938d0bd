"""The LightningDataModule of a run: batches from the Trainer's step on, and validation rows shared by processes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from tests.end_to_end.runs import tiny_experiment

from fulgurite.stage.data_module import StageData


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run of steps of 4 rows in micro-batches of 2, with validation rows."""
    words = ["data.val_fraction=0.2", "trainer.micro_batch_size=2", "data.max_samples=50"]
    return tiny_experiment(tmp_path_factory.mktemp("data") / "run", *words)


def data_of(made: Any, processes: int = 1, rank: int = 0, step: int = 0) -> StageData:
    data = StageData(made.module, made.data.rows, made.data.val, processes)
    data.trainer = SimpleNamespace(global_rank=rank, global_step=step)  # type: ignore[assignment]
    return data


def rows_of(data: StageData) -> list[list[int]]:
    return [batch["rows"] for batch in data.train_dataloader()]


def test_an_epoch_is_every_row_once_in_equal_steps(made: Any) -> None:
    data = data_of(made)
    batches, count = rows_of(data), data.micro_batches_per_step
    assert count == made.module.micro_batches_per_step == 2
    assert len(batches) == len(data.train_dataloader()) == -(-len(data.rows) // 4) * count
    assert sorted(n for batch in batches for n in batch) == list(range(len(data.rows)))


def test_a_resumed_run_reads_what_it_would_have_read(made: Any) -> None:
    whole, per_epoch = rows_of(data_of(made)), made.data.order.steps_per_epoch
    assert rows_of(data_of(made, step=3)) == whole[3 * 2 :]
    second = rows_of(data_of(made, step=per_epoch))
    assert second != whole
    assert sorted(n for batch in second for n in batch) == sorted(n for batch in whole for n in batch)


def test_two_processes_share_each_step_and_the_validation_rows(made: Any) -> None:
    one, two = [rows_of(data_of(made, 2, rank)) for rank in (0, 1)]
    whole = rows_of(data_of(made))
    for step in range(len(whole) // 2):
        shared = one[step] + two[step]  # a process has one micro-batch of two
        assert sorted(shared) == sorted(whole[2 * step] + whole[2 * step + 1])
    seen = [n for rank in (0, 1) for batch in data_of(made, 2, rank).val_dataloader() for n in batch["rows"]]
    assert sorted(seen) == list(range(len(made.data.val)))


def test_without_validation_rows_or_a_trainer(made: Any) -> None:
    data = StageData(made.module, made.data.rows, None)
    assert data.val_dataloader() == []
    assert (data.rank, data._position()) == (0, 0)
