"""The rules of run.py: values outside their usual ranges, and resuming."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.plan.rules.cases import Case, check_complete, check_found, check_not_found, describe

from fulgurite.checkpoint.resume import Change
from fulgurite.run.resume_plan import ResumePlan

CHANGED = ResumePlan(Path("runs/a"), 5, refused=(Change("optim.lr", 0.001, 0.002),))
EARLIER = ResumePlan(Path("runs/a"), step=50)
FOUND = [
    Case(
        "value.unusual", "trainer.keep_checkpoints=9", {}, "warning",
        "trainer.keep_checkpoints=9 is outside what is usual here (1 to 5).", "trainer.keep_checkpoints=5",
    ),
    Case(
        "value.unusual", "stage=dpo stage.loss=simpo stage.gamma=5", {}, "warning", "stage.gamma=5.0 is outside",
        "stage.gamma=2",
    ),
    Case(
        "resume.changed", "resume.allow=[seed]", {"earlier": CHANGED}, "error",
        "This run differs from runs/a: optim.lr 0.001 → 0.002", "resume.allow=[optim.lr,seed]",
    ),
    Case(
        "resume.finished", "", {"earlier": ResumePlan(Path("runs/a"), 1000)}, "error",
        "runs/a finished at step 1,000 of 1,000", "trainer.max_steps=2000 resume.allow=[trainer.max_steps]",
    ),
    Case(
        "resume.exactness", "", {"earlier": ResumePlan(Path("runs/a"), 5, missing=("optimizer.safetensors",))}, "error",
        "lacks optimizer.safetensors",
    ),
]
NOT_FOUND = [
    Case("value.unusual", "trainer.keep_checkpoints=5"),
    Case("value.unusual", "optim.lr=5e-5"),  # rate.low-for-lora reports it
    Case("resume.changed"),
    Case("resume.changed", "", {"earlier": EARLIER}),
    Case("resume.finished", "", {"earlier": EARLIER}),
    Case("resume.finished"),
    Case("resume.exactness", "", {"earlier": EARLIER}),
]


def test_every_rule_has_cases() -> None:
    check_complete("run", FOUND, NOT_FOUND)


@pytest.mark.parametrize("case", FOUND, ids=describe)
def test_rule_finds_the_trouble_and_its_remedy_mends_it(case: Case) -> None:
    check_found(case)


@pytest.mark.parametrize("case", NOT_FOUND, ids=describe)
def test_rule_finds_nothing_in_a_sound_run(case: Case) -> None:
    check_not_found(case)
