"""The mean of weights: equal to the mean by hand of merged weights; other bases and shapes are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.end_to_end.runs import tiny
from tests.export.exports import export, load_plain

from fulgurite.config.average_arguments import Average, AverageWeights, read
from fulgurite.config.guard import Allowed
from fulgurite.errors import ModelError, RequestError
from fulgurite.export.average import (
    NAME,
    average,
    choose_decay,
    compute_ema_weights,
    find_members,
    write_average,
)
from fulgurite.run.load import load_run, merge_trained

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `lora`, with an adapter of another rank, data order and target."""
    words = ["optim.lr=1e-2", "scheduler=constant", "trainer.max_steps=3", "trainer.eval_every=3", "seed=7"]
    return tiny(tmp_path_factory.mktemp("second") / "run", "method.rank=2", *words)


def merged(run: Path, checkpoint: str) -> dict[str, torch.Tensor]:
    model = merge_trained(load_run(run, checkpoint, exact=True).model)
    return {name: tensor.detach().clone() for name, tensor in model.named_parameters()}


def test_the_written_average_is_the_mean_of_the_merged_weights(lora: Path, second: Path, tmp_path: Path) -> None:
    allowed, config, out = read([f"run={lora}", f"run={second}", f"out={tmp_path / 'out'}", "checkpoints=last"])
    members = find_members(config)
    assert [m.weight for m in members] == [0.5, 0.5]
    write_average(config, members, out, allowed)
    found = load_plain(out).state_dict()
    one, two = merged(lora, "last"), merged(second, "last")
    moved = 0
    for name in one:
        assert torch.allclose(found[name], (one[name].double() + two[name].double()).float() / 2, atol=1e-7, rtol=1e-6)
        moved += int(not torch.equal(one[name], two[name]))
    assert moved > 4  # else the mean of equal models would prove nothing
    assert json.loads((out / NAME).read_text())["members"][1]["weight"] == 0.5
    assert str(tmp_path.parent) not in (out / NAME).read_text()


def test_a_moving_average_has_the_weights_that_are_printed(lora: Path) -> None:
    config = Average([str(lora)], "x", ["step-6", "step-3"], AverageWeights.ema, 0.25)
    members = find_members(config)
    assert [(m.checkpoint.name, m.weight) for m in members] == [("step-3", 0.25), ("step-6", 0.75)]  # by step
    found = dict(average(config, members, Allowed()).model.named_parameters())
    one, two = merged(lora, "step-3"), merged(lora, "step-6")
    for name in one:
        assert torch.allclose(found[name], 0.25 * one[name] + 0.75 * two[name], atol=1e-7, rtol=1e-6)


def test_weights_of_a_moving_average_add_up_to_one() -> None:
    assert compute_ema_weights(3, 0.5) == [0.25, 0.25, 0.5]
    assert sum(compute_ema_weights(9, None)) == pytest.approx(1)
    assert choose_decay(3, None) == 0.5


def test_a_checkpoint_under_two_names_is_refused(lora: Path) -> None:
    with pytest.raises(RequestError, match=r"step-6 of .* is given twice"):
        find_members(Average([str(lora)], "x", ["last", "step-6"]))


def test_another_base_or_shape_is_refused_and_nothing_is_written(lora: Path, tmp_path: Path) -> None:
    """A base with the same shapes and other weights is found by its files."""
    base = export(lora, tmp_path / "base")
    other = tiny(tmp_path / "other", "model=hf", f"model.path={base}", "trainer.max_steps=1")
    config = Average([str(lora), str(other)], str(tmp_path / "out"), ["last"])
    with pytest.raises(ModelError, match="was trained from another base"):
        write_average(config, find_members(config), tmp_path / "out", Allowed())
    deeper = tiny(tmp_path / "deeper", "model.layers=1", "trainer.max_steps=1")
    config.run[1] = str(deeper)
    with pytest.raises(ModelError, match="another base"):
        write_average(config, find_members(config), tmp_path / "out", Allowed())
    assert not (tmp_path / "out").exists()
