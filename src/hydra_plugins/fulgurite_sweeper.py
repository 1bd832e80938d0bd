"""Hydra's door to our search: `hydra/sweeper=fulgurite`, which every conf/sweep/*.yaml chooses.

hydra-optuna-sweeper was looked at: its 1.3 needs Optuna 2, knows no study that goes on, no pruning inside a trial,
and dies on a NaN. Hydra finds plug-ins in this namespace only. It imports every one of them at each start: nothing
heavy here.
"""

from __future__ import annotations

from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class FulguriteSweeper(Sweeper):
    """Hands the words, the launcher and Hydra's loader on to fulgurite.sweep.hydra."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `sweep`."""
        self.hydra_context, self.config, self.launcher = hydra_context, config, None
        self.make_launcher: Any = lambda: Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """The whole search."""
        from fulgurite.sweep.hydra import run_search

        assert self.hydra_context is not None
        assert self.config is not None
        run_search(arguments, self.config, self.hydra_context.config_loader, self.make_launcher)


ConfigStore.instance().store(
    group="hydra/sweeper",
    name="fulgurite",
    node={"_target_": "hydra_plugins.fulgurite_sweeper.FulguriteSweeper"},
    provider="fulgurite",
)

__all__ = ["FulguriteSweeper"]
