"""`fulgurite average` prints the losses that `fulgurite eval` measures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fulgurite.cli.main import main

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")


def evaluate(run: Path, checkpoint: str, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(["eval", f"run={run}", f"checkpoint={checkpoint}", "--json"]) == 0
    return f"{json.loads(capsys.readouterr().out)['numbers']['loss']:.4f}"


def test_losses_of_members_are_those_of_eval(sft: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = [f"run={sft}", f"out={out}", "checkpoints=step-2,step-4"]
    assert main(["average", *words]) == 0
    printed = capsys.readouterr().out
    losses = [line.split()[-1] for line in printed.splitlines() if line.startswith("run/step-")]
    assert losses == [evaluate(sft, "step-2", capsys), evaluate(sft, "step-4", capsys)]
    (mean,) = [line.split()[-1] for line in printed.splitlines() if line.startswith("average ")]
    assert mean not in losses
    assert float(mean) < max(map(float, losses))  # the loss is nearly convex between two checkpoints of a short run
    assert main(["average", *words]) == 2
    assert "nothing is overwritten" in capsys.readouterr().err


def test_an_average_of_reward_models_is_measured(rm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["average", f"run={rm}", f"out={tmp_path / 'out'}", "checkpoints=step-2,step-4"]) == 0
    assert "average " in capsys.readouterr().out


def test_a_stage_with_a_reference_prints_why_no_loss(
    dpo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["average", f"run={dpo}", f"out={tmp_path / 'out'}", "checkpoints=step-2,step-4"]) == 0
    assert "compares with the model before training" in capsys.readouterr().out
    assert (tmp_path / "out" / "model.safetensors").is_file()
