"""The state of Lightning's loops, made from a position: the names of lightning 2.6, and its counters."""

from __future__ import annotations

import pytest
from lightning.pytorch import Trainer
from tests.checkpoint.toy_training import K

from fulgurite.checkpoint import loop
from fulgurite.trainer.build import quiet


def test_lightnings_own_counters_have_the_names_that_are_written():
    quiet()
    trainer = Trainer(accelerator="cpu", max_steps=1, logger=False, enable_checkpointing=False)
    own = trainer.fit_loop.state_dict()
    ours = loop.build_fit_loop_state(loop.Position(5, 3, True), K)
    assert shape(ours) == shape(own)
    trainer.fit_loop.load_state_dict(ours)
    assert trainer.global_step == 5
    assert trainer.current_epoch == 1


def shape(tree):
    return {key: shape(value) for key, value in tree.items()} if isinstance(tree, dict) else type(tree)


def test_an_owed_evaluation_keeps_the_position_in_the_old_epoch():
    between = loop.build_fit_loop_state(loop.Position(6, 3), K)
    assert between["epoch_progress"]["total"] == {"ready": 2, "started": 2, "processed": 2, "completed": 2}
    assert between["epoch_loop.batch_progress"]["current"]["completed"] == 0
    owed = loop.build_fit_loop_state(loop.Position(6, 3, evaluated=False), K)
    assert owed["epoch_progress"]["total"] == {"ready": 2, "started": 2, "processed": 1, "completed": 1}
    assert owed["epoch_loop.batch_progress"]["current"]["completed"] == 9
    assert owed["epoch_loop.batch_progress"]["is_last_batch"] is True


@pytest.mark.parametrize("micro_batches", [1, K])
@pytest.mark.parametrize("step", range(7))
def test_lightning_reads_its_counters_from_a_position(step, micro_batches):
    """Three steps an epoch: steps, epochs and batches as Lightning counts them, however the state was made."""
    quiet()
    trainer = Trainer(
        accelerator="cpu", max_steps=9, logger=False, enable_checkpointing=False, accumulate_grad_batches=micro_batches
    )
    trainer.fit_loop.load_state_dict(loop.build_fit_loop_state(loop.Position(step, 3), micro_batches))
    assert trainer.global_step == step
    assert trainer.current_epoch == step // 3
    progress = trainer.fit_loop.epoch_loop.batch_progress
    assert progress.total.completed == step * micro_batches
    assert progress.current.completed == step % 3 * micro_batches
    assert trainer.fit_loop.epoch_loop.batch_idx == step % 3 * micro_batches - 1
