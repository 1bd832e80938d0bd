"""What Lightning does that Fulgurite replaces. A test that fails here names a piece that is no longer needed."""

from __future__ import annotations

import importlib
import math
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import DataLoader

from fulgurite.train.lightning import REPLACED, clean_process_group


class Mean(LightningModule):
    """One weight w, loss w times the mean of a batch: the gradient is what the batches were averaged to."""

    def __init__(self) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(1))
        self.gradients: list[float] = []

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return (self.w * batch).mean()

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.gradients.append(float(self.w.grad))

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("val/loss", batch.mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def batches(*rows: list[float]) -> DataLoader[torch.Tensor]:
    return DataLoader([torch.tensor(row) for row in rows], batch_size=None)


def fit(folder: Path, loader: Any, module: LightningModule | None = None, val: Any = None, **more: Any) -> Trainer:
    module = module or Mean()
    usual: dict[str, Any] = {
        "accelerator": "cpu", "max_epochs": 1, "logger": False, "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False, "default_root_dir": folder, "num_sanity_val_steps": 0,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = Trainer(**usual | more)
        trainer.fit(module, loader, val)
    return trainer


def test_lightning_averages_the_means_of_micro_batches(tmp_path: Path) -> None:
    module = Mean()
    fit(tmp_path, batches([1.0, 1.0, 1.0], [5.0]), module, accumulate_grad_batches=2)
    assert module.gradients == [3.0]  # the mean over all four is 2


def test_lightning_divides_a_partial_window_by_the_configured_number(tmp_path: Path) -> None:
    module = Mean()
    fit(tmp_path, batches([4.0], [4.0], [4.0]), module, accumulate_grad_batches=2)
    assert module.gradients == [4.0, 2.0]


def test_lightning_trains_on_after_a_loss_that_is_no_number(tmp_path: Path) -> None:
    module = Mean()
    fit(tmp_path, batches([math.nan], [1.0]), module)
    assert len(module.gradients) == 2


def saved(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A checkpoint of Lightning's own, as its file and as what is in it."""
    trainer = fit(tmp_path, batches([1.0], [2.0]))
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    return tmp_path / "x.ckpt", trainer._checkpoint_connector.dump_checkpoint()


def test_lightnings_checkpoint_is_a_pickle(tmp_path: Path) -> None:
    path, _ = saved(tmp_path)
    assert path.is_file()
    assert any(name.endswith("data.pkl") for name in zipfile.ZipFile(path).namelist())


def test_lightnings_checkpoint_has_no_random_state(tmp_path: Path) -> None:
    _, content = saved(tmp_path)
    assert content.keys() >= {"state_dict", "loops", "optimizer_states"}
    assert not [key for key in content if "rng" in key or "random" in key]


class Order(Callback):
    """The order of a step's evaluation and its checkpoint."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_save_checkpoint(self, *rest: Any) -> None:
        self.seen.append("saved")

    def on_validation_end(self, *rest: Any) -> None:
        self.seen.append("evaluated")


def test_lightning_saves_before_the_evaluation_of_the_step(tmp_path: Path) -> None:
    order = Order()
    saves = ModelCheckpoint(tmp_path / "kept", every_n_train_steps=2)
    fit(
        tmp_path, batches([1.0], [2.0]), val=batches([1.0]), callbacks=[order, saves], enable_checkpointing=True,
        max_steps=2,
        val_check_interval=2,
    )
    assert order.seen.index("saved") < order.seen.index("evaluated")


class Counters(Callback):
    """The loop's counters after the second step, in two hooks."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_train_batch_end(self, trainer: Trainer, *rest: Any) -> None:
        if trainer.global_step == 2:
            self.seen.append(trainer.fit_loop.state_dict())

    def on_train_batch_start(self, trainer: Trainer, *rest: Any) -> None:
        if trainer.global_step == 2:
            self.seen.append(trainer.fit_loop.state_dict())


def test_lightnings_loop_counters_differ_from_hook_to_hook(tmp_path: Path) -> None:
    counters = Counters()
    fit(tmp_path, batches([1.0], [2.0], [3.0]), callbacks=[counters])
    first, second, *_ = counters.seen
    assert first["epoch_loop.batch_progress"] != second["epoch_loop.batch_progress"]


def test_lightning_answers_ctrl_c_with_exit_status_1(tmp_path: Path) -> None:
    class Pressed(Mean):
        def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
            raise KeyboardInterrupt

    with pytest.raises(SystemExit) as left:
        fit(tmp_path, batches([1.0]), Pressed())
    assert left.value.code == 1
    assert isinstance(left.value.__context__, KeyboardInterrupt)  # by which `train.lightning.fit` knows it


@pytest.fixture
def gone() -> Iterator[None]:
    with clean_process_group():
        yield
    assert not torch.distributed.is_initialized()


def test_lightning_leaves_the_process_group(tmp_path: Path, gone: None) -> None:
    fit(
        tmp_path,
        batches([1.0]),
        strategy=DDPStrategy(process_group_backend="gloo"),
        devices=1,
        use_distributed_sampler=False,
    )
    assert torch.distributed.is_initialized()


def test_a_logger_that_fails_ends_lightnings_fit(tmp_path: Path) -> None:
    class Failing(CSVLogger):
        def log_metrics(self, *rest: Any, **more: Any) -> None:
            raise ConnectionError("the server is gone")

    with pytest.raises(ConnectionError, match="gone"):
        fit(tmp_path, batches([1.0]), val=batches([1.0]), logger=Failing(tmp_path))


def test_each_replaced_piece_is_there_and_has_its_test() -> None:
    for piece in REPLACED:
        module, _, name = piece.ours.partition(":")
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        assert callable(found), piece.name
        assert piece.test in globals(), piece.name
    tests = {name for name in globals() if name.startswith("test_") and "lightning" in name}
    assert tests == {piece.test for piece in REPLACED}
