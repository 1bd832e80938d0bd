"""Lightning's strategy for sharded parameters, with checkpoints of the same form as those of one device.

The stage is sharded before it gets here (`strategy/sharding.py`). Replaced of Lightning's ModelParallelStrategy 2.6:

- its checkpoint, a pickle of each process or of all: whole tensors are gathered one after the other, and the first
  process writes the same folder as a run on one device; or each process writes its parts into one folder, if it is
  large;
- its device mesh, of data and tensor parallel processes: the stage was sharded on a mesh already;
- the way of the model to the device, on which its parts already are (or on the CPU, with offloading).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.strategies.strategy import Strategy
from lightning.pytorch.trainer.states import TrainerFn

from fulgurite.checkpoint.io import FolderCheckpointIO
from fulgurite.checkpoint.peers import Peers
from fulgurite.checkpoint.shards import cut_parts, gather_whole, measure_whole, split_state, take_part
from fulgurite.strategy.build import PATIENCE
from fulgurite.strategy.config import Fsdp
from fulgurite.strategy.sharding import reshard


class ShardedStrategy(ModelParallelStrategy):  # type: ignore[misc]
    """Trains a stage whose parameters are distributed over all processes."""

    model: Any

    def __init__(self, shard_above: float = math.inf) -> None:
        """A checkpoint of more than `shard_above` bytes is written by all processes together."""
        super().__init__(save_distributed_checkpoint=False, timeout=PATIENCE)
        self._shard_above = shard_above

    @property
    def lightning_restore_optimizer(self) -> bool:
        """The optimizer's state is restored by `load_optimizer_state_dict`."""
        return True

    def setup_environment(self) -> None:
        """Connects the processes, without a mesh."""
        self._setup_distributed()

    def setup(self, trainer: Trainer) -> None:
        """Builds the optimizer of the sharded parameters."""
        self.accelerator.setup(trainer)
        self.model = self.precision_plugin.convert_module(self.model)
        self.lightning_module._device = self.root_device  # what Module.to would note
        self.barrier()
        if trainer.state.fn == TrainerFn.FITTING:
            self.setup_optimizers(trainer)
        self.setup_precision_plugin()

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Returns nothing: the checkpoint callback, which is called next, selects the trained parameters."""
        reshard(self.lightning_module)
        return {}

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        """Returns the state of this process's parts."""
        inner = optimizer._optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        found: dict[str, Any] = inner.state_dict()
        return found

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """Lets every process write its parts, or gathers whole tensors, which the first process writes."""
        writer = self.checkpoint_io
        if isinstance(writer, FolderCheckpointIO) and measure_whole(checkpoint) > self._shard_above:
            writer.save_parts(cut_parts(checkpoint), filepath, Peers(self))
            return
        whole = gather_whole(checkpoint, keep=self.is_global_zero)
        Strategy.save_checkpoint(self, whole, filepath, storage_options)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Reads the folder; its tensors stay in the files until a process reads its parts of them."""
        reader = self.checkpoint_io
        is_ours = isinstance(reader, FolderCheckpointIO)
        found: dict[str, Any] = (reader.open_checkpoint if is_ours else reader.load_checkpoint)(checkpoint_path)
        return found

    @torch.no_grad()
    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Copies this process's part of each tensor; the checkpoint callback has checked the names."""
        module = self.lightning_module
        own = dict(module.named_parameters()) | dict(module.named_buffers())
        for name, whole in checkpoint["state_dict"].items():
            own[name].copy_(take_part(whole, own[name]))

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Loads this process's part of each optimizer's state."""
        for optimizer, saved in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            numbers = [number for group in saved["param_groups"] for number in group["params"]]
            every = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            # A saved state numbers the parameters in the order of the groups.
            live = dict(zip(numbers, every, strict=True))
            state = {number: split_state(of, live[number]) for number, of in saved["state"].items()}
            optimizer.load_state_dict({**saved, "state": state})


def build_fsdp(config: Fsdp, processes: int) -> ShardedStrategy:
    """Returns the strategy of `strategy=fsdp`."""
    return ShardedStrategy(config.shard_checkpoint_gb * 1e9)
