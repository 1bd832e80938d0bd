"""Which weights a checkpoint holds: the trained ones, each once, and buffers that training changed."""

from __future__ import annotations

import pytest
import torch
from tests.checkpoint.toy_training import Model, train

from fulgurite.checkpoint import weights
from fulgurite.checkpoint.read import read_weights
from fulgurite.errors import CheckpointError, TrainingFailed


def test_only_the_trained_weights_each_once(tmp_path):
    train(tmp_path, epochs=1)
    assert set(read_weights(tmp_path / "checkpoints" / "last")) == {"first.weight", "out.weight", "out.bias"}


class WithBuffers(Model):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("constant", torch.ones(3))
        self.register_buffer("cache", torch.ones(3), persistent=False)

    def training_step(self, batch, batch_idx):
        self.seen += len(batch)
        return super().training_step(batch, batch_idx)


def test_a_buffer_is_kept_if_training_changed_it(tmp_path):
    train(tmp_path, epochs=1, model=WithBuffers())
    kept = read_weights(tmp_path / "checkpoints" / "last")
    assert set(kept) == {"first.weight", "out.weight", "out.bias", "seen"}
    assert kept["seen"] == 16
    resumed = WithBuffers()
    train(tmp_path, epochs=2, model=resumed)
    assert resumed.seen == 32


class OtherWeights(Model):
    def __init__(self):
        super().__init__()
        self.frozen.requires_grad_(True)


class FewerWeights(Model):
    def __init__(self):
        super().__init__()
        self.out.requires_grad_(False)


@pytest.mark.parametrize(("model", "words"), [(OtherWeights, "lacks frozen.bias"), (FewerWeights, "contains out.bias")])
def test_other_trained_weights_are_refused_by_name(tmp_path, model, words):
    train(tmp_path, epochs=1)
    with pytest.raises(CheckpointError, match=rf"step-3 {words}.*\(2 names differ\)"):
        train(tmp_path, model=model())


def module():
    made = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2, bias=False), torch.nn.BatchNorm1d(2))
    made[1].weight = made[0].weight  # tied
    made[0].bias.requires_grad_(False)
    return made


def test_trained_weights_are_listed_once_and_buffers_are_copied():
    made = module()
    assert weights.list_trained_names(made) == ["0.weight", "2.weight", "2.bias"]
    buffers = weights.copy_buffers(made)
    assert set(buffers) == {"2.running_mean", "2.running_var", "2.num_batches_tracked"}
    made[2].running_mean += 1
    assert buffers["2.running_mean"].tolist() == [0, 0]  # a copy
    found = weights.select_weights(made, buffers)
    assert set(found) == {"0.weight", "2.weight", "2.bias", "2.running_mean"}
    assert found["0.weight"].data_ptr() == made[0].weight.data_ptr()  # nothing is copied


def test_loaded_names_must_be_the_trained_ones():
    made = module()
    weights.check_names(made, ["0.weight", "2.weight", "2.bias", "2.running_mean"], "step-1")
    with pytest.raises(CheckpointError, match=r"step-1 lacks 2\.bias \(1 names differ\)"):
        weights.check_names(made, ["0.weight", "2.weight"], "step-1")
    with pytest.raises(CheckpointError, match=r"contains 0\.bias, which this run does not train \(1 names differ\)"):
        weights.check_names(made, ["0.weight", "2.weight", "2.bias", "0.bias"], "step-1")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64])
def test_the_first_tensor_that_is_not_finite_is_named(dtype):
    good = {"a": torch.ones(3, dtype=dtype), "count": torch.tensor([2**40])}
    weights.check_finite(good, "step-1")
    bad = good | {"b": torch.tensor([1, float("inf"), float("nan")], dtype=dtype), "c": torch.tensor([float("nan")])}
    with pytest.raises(TrainingFailed, match=r"step-1 was not written: 2 of 3 values of b are not finite"):
        weights.check_finite(bad, "step-1")
