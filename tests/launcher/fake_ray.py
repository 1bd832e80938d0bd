"""The part of Ray that launcher=ray uses, in this process: workers are threads, actors are plain objects."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


class TrainingFailedError(Exception):
    """What Ray Train raises if the run was started too often."""

    def __init__(self, worker_failures: dict[int, Exception]) -> None:
        super().__init__("Training failed due to worker errors")
        self.worker_failures = worker_failures


class Method:
    """A method of an actor: its result is there at once."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.remote = call


class Handle:
    """The handle of an actor."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def __getattr__(self, name: str) -> Method:
        return Method(getattr(self._actor, name))


class FakeRay:
    """What was asked of Ray, and the workers of the run."""

    def __init__(self, gpus: int = 0) -> None:
        self.gpus, self.inits, self.starts, self.is_down = gpus, [], 0, False
        self.scaling: Any = None
        self.run_config: Any = None
        self._place = threading.local()
        self._shared: dict[str, Any] = {}
        self._barrier = threading.Barrier(1)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Puts the fake modules in the place of Ray's."""
        ray, train, torch, collective = (ModuleType(name) for name in NAMES)
        ray.__dict__.update(
            train=train, init=lambda **given: self.inits.append(given), get=lambda value: value,
            shutdown=lambda: setattr(self, "is_down", True), cluster_resources=lambda: {"CPU": 2, "GPU": self.gpus},
            remote=lambda **given: lambda cls: SimpleNamespace(remote=lambda: Handle(cls())),
            util=SimpleNamespace(get_node_ip_address=lambda: "127.0.0.1"),
        )
        train.__dict__.update(
            torch=torch, collective=collective, get_context=lambda: self._place.context,
            ScalingConfig=SimpleNamespace, RunConfig=SimpleNamespace, FailureConfig=SimpleNamespace,
        )
        torch.__dict__.update(TorchConfig=SimpleNamespace, TorchTrainer=self._make_trainer)
        collective.__dict__.update(broadcast_from_rank_zero=self._broadcast, barrier=lambda: self._barrier.wait())
        for name, module in zip(NAMES, (ray, train, torch, collective), strict=True):
            monkeypatch.setitem(sys.modules, name, module)

    def _make_trainer(self, loop: Callable[[dict[str, Any]], None], **given: Any) -> SimpleNamespace:
        self.scaling, self.run_config = given["scaling_config"], given["run_config"]
        return SimpleNamespace(fit=lambda: self._fit(loop, given["train_loop_config"]))

    def _fit(self, loop: Callable[[dict[str, Any]], None], config: dict[str, Any]) -> None:
        while True:
            self.starts += 1
            failures = self._start(loop, config)
            if not failures:
                return
            if self.starts > self.run_config.failure_config.max_failures:
                raise TrainingFailedError(failures)

    def _start(self, loop: Callable[[dict[str, Any]], None], config: dict[str, Any]) -> dict[int, Exception]:
        size, failures = self.scaling.num_workers, {}
        self._barrier = threading.Barrier(size)

        def work(rank: int) -> None:
            self._place.context = SimpleNamespace(
                get_world_rank=lambda: rank, get_world_size=lambda: size, get_local_rank=lambda: rank,
                get_local_world_size=lambda: size, get_node_rank=lambda: 0,
            )
            try:
                loop(config)
            except Exception as error:
                failures[rank] = error

        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return failures

    def _broadcast(self, data: Any) -> Any:
        if self._place.context.get_world_rank() == 0:
            self._shared["data"] = data
        self._barrier.wait()
        return self._shared["data"]


NAMES = ("ray", "ray.train", "ray.train.torch", "ray.train.collective")
