"""What reaches Lightning's Trainer: each argument does what its parameter says, and changes no number."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ModelSummary
from lightning.pytorch.profilers import AdvancedProfiler, PassThroughProfiler, SimpleProfiler
from tests.end_to_end.runs import rows, tiny

from fulgurite import experiment
from fulgurite.config.compose import compose
from fulgurite.config.stored import add_strategy
from fulgurite.errors import ConfigError
from fulgurite.trainer.build import build_profiler
from fulgurite.trainer.config import Profiler

PASSED_ON = [
    "trainer.profiler=simple", "trainer.detect_anomaly=true", "trainer.deterministic=true", "trainer.benchmark=true",
    "trainer.enable_model_summary=true",
]


@pytest.fixture
def _flags() -> Iterator[None]:
    """torch's flags are those of the process."""
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    yield
    torch.use_deterministic_algorithms(before[0])
    torch.backends.cudnn.benchmark = before[1]


@pytest.mark.usefixtures("_flags")
def test_lightnings_arguments_are_passed_on(tmp_path: Path) -> None:
    words = ["model=tiny", "data.max_samples=60", "trainer.max_steps=2", "plan.allow=[steps.too-few]"]
    plain = experiment(*words, f"run_dir={tmp_path / 'plain'}").trainer
    assert isinstance(plain.profiler, PassThroughProfiler)  # type: ignore[attr-defined]
    assert not plain._detect_anomaly
    assert not any(isinstance(callback, ModelSummary) for callback in plain.callbacks)  # type: ignore[attr-defined]
    assert (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark) == (False, False)
    with pytest.warns(UserWarning, match="deterministic=True` and `benchmark=True"):
        passed = experiment(*words, *PASSED_ON, f"run_dir={tmp_path / 'passed'}").trainer
    assert isinstance(passed.profiler, SimpleProfiler)  # type: ignore[attr-defined]
    assert passed._detect_anomaly
    assert any(isinstance(callback, ModelSummary) for callback in passed.callbacks)  # type: ignore[attr-defined]
    assert (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark) == (True, True)
    assert isinstance(build_profiler(Profiler.advanced, tmp_path), AdvancedProfiler)


@pytest.mark.usefixtures("_flags")
def test_lightnings_arguments_change_no_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    usual = tiny(tmp_path / "usual", "optim.lr=1e-2")
    assert "Trainable params" not in capsys.readouterr().out
    words = [word for word in PASSED_ON if "benchmark" not in word]
    passed = tiny(tmp_path / "passed", "optim.lr=1e-2", *words)
    assert rows(passed) == rows(usual)
    assert "run_training_batch" in (passed / "fit-profile.txt").read_text()
    assert "Trainable params" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "accelerator", "strategy", "devices"),
    [("auto", "auto", "auto", 1), ("cpu", "cpu", "auto", 1), ("ddp_cpu", "cpu", "ddp", 3)],
)
def test_a_config_from_before_there_were_strategies(option: str, accelerator: str, strategy: str, devices: int) -> None:
    before = {"trainer": {"option": option, "epochs": 2.0, **({"processes": 3} if option == "ddp_cpu" else {})}}
    now = add_strategy(before)
    assert now["strategy"] == {"option": strategy}
    wanted = {
        "option": "default",
        "epochs": 2.0,
        "accelerator": accelerator,
        "devices": devices,
        "num_nodes": 1,
        "profiler": "none",
    }
    assert now["trainer"] | wanted == now["trainer"]
    assert add_strategy(now) == now
    with pytest.raises(ConfigError, match=f"^trainer={option} is now "):
        compose([f"trainer={option}"])
