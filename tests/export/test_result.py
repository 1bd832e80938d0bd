"""The result of an export, as it is printed: differences, what rounding changed, and notes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fulgurite.config.export_arguments import Export
from fulgurite.export.model import describe_export
from fulgurite.export.result import Written
from fulgurite.language import UserMessage


def report(written: Written, rewards: bool = False) -> list[str]:
    loaded: Any = SimpleNamespace(
        checkpoint=Path("/runs/a/step-6"), run=SimpleNamespace(stage=SimpleNamespace(gives_rewards=rewards)),
    )
    return list(map(str, describe_export(loaded, Export(run="runs/a", out="out"), Path("out"), written)))


def test_an_exact_export_is_one_line() -> None:
    assert report(Written(1e-6, torch.float32)) == [
        "Exported step-6 of runs/a to out in float32. Read back, the logits differ by at most 1.0e-06 of the largest."
    ]


@pytest.mark.parametrize(("rounding", "lines"), [(1e-3, 2), (0.9, 3)])
def test_rounding_is_reported_and_a_coarse_dtype_is_warned_about(rounding: float, lines: int) -> None:
    found = report(Written(0.0, torch.bfloat16, rounding), rewards=True)
    assert len(found) == lines
    assert "rewards differ by at most 0.0e+00" in found[0]
    assert found[1].startswith(f"Rounding to bfloat16 changed the rewards by {rounding:.1e} of the largest;")
    assert found[2:] == ["warning: bfloat16 is too coarse for this model; export with dtype=float32."][: lines - 2]


def test_notes_come_last_and_are_of_one_export_alone() -> None:
    first, second = Written(0.0, torch.float32), Written(0.0, torch.float32)
    first.notes.append(UserMessage("A note."))
    assert report(first)[-1] == "A note."
    assert second.notes == []
