"""Callbacks of Lightning and of other packages, built from their options."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

import pytest
from lightning.pytorch import Callback
from tests.end_to_end.runs import tiny

from fulgurite.callback import config
from fulgurite.callback.config import DeviceStatsOption, LrMonitorOption
from fulgurite.callback.stock import build_device_stats, build_lr_monitor, build_offered
from fulgurite.config.schema import _options
from fulgurite.errors import ConfigError

BARE = ["data.val_fraction=0", "trainer.max_steps=2"]


class Steps(Callback):  # type: ignore[misc]
    """Notes the steps of the last run."""

    seen: ClassVar[list[int]] = []

    def on_train_batch_end(self, trainer: Any, *rest: Any) -> None:
        if trainer.global_step not in self.seen:
            self.seen.append(trainer.global_step)


def wants_words(words: str) -> None:
    """No class of a callback: it cannot be called without arguments."""


def no_callback() -> int:
    return 3


def test_a_package_offers_a_callback_by_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line of its pyproject.toml: the class is imported when a run is built with it."""
    monkeypatch.setitem(_options, "callback", dict(_options["callback"]))
    places = {"steps": "Steps", "broken": "wants_words"}
    offered = [EntryPoint(name, f"{__name__}:{place}", "fulgurite.callbacks") for name, place in places.items()]
    monkeypatch.setattr(config, "entry_points", lambda group: offered if group == "fulgurite.callbacks" else [])
    config.offer_installed()
    tiny(tmp_path / "run", *BARE, "callback=[steps]")
    assert Steps.seen == [1, 2]
    with pytest.raises(ConfigError, match=r"callback=broken \(.*:wants_words\) cannot be made: TypeError"):
        tiny(tmp_path / "broken", *BARE, "callback=[broken]")


CONTEXT: Any = None
"""What these builders do not read."""


@pytest.mark.parametrize(("place", "said"), [
    ("no_callback", "is no Lightning callback: int"), ("gone", "cannot be made: AttributeError"),
])
def test_what_is_no_callback_is_refused(place: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_options, "callback", dict(_options["callback"]))
    offered = config.offer("mine", f"{__name__}:{place}")
    with pytest.raises(ConfigError, match=rf"^callback=mine \({__name__}:{place}\) {said}"):
        build_offered(offered(), CONTEXT)


@pytest.mark.parametrize(("momentum", "decay"), [(False, False), (True, False), (False, True)])
def test_the_lr_monitor_logs_each_step_and_what_its_parameters_ask_for(momentum: bool, decay: bool) -> None:
    made = build_lr_monitor(LrMonitorOption(log_momentum=momentum, log_weight_decay=decay), CONTEXT)
    assert (made.logging_interval, made.log_momentum, made.log_weight_decay) == ("step", momentum, decay)


@pytest.mark.parametrize(("asked", "given"), [(True, True), (False, None)])
def test_device_stats_leaves_the_choice_to_lightning_unless_asked(asked: bool, given: bool | None) -> None:
    """Lightning's None logs a CPU run's CPU, its False would not."""
    assert build_device_stats(DeviceStatsOption(cpu_stats=asked), CONTEXT)._cpu_stats is given
