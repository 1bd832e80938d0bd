"""What every stage declares: a new stage with nothing but its builder trains as its defaults say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from tests.end_to_end.runs import losses, tiny

from fulgurite.config.compose import compose
from fulgurite.config.schema import _options, option
from fulgurite.stage.config import GenerativeStage


@pytest.fixture
def _mine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_options, "stage", dict(_options["stage"]))

    @option("stage", "mine")
    @dataclass(slots=True)
    class Mine(GenerativeStage):
        """Learns the next token."""

        builds: ClassVar[str] = "fulgurite.stage.causal_lm:LanguageStage"


@pytest.mark.usefixtures("_mine")
def test_a_stage_that_declares_its_builder_alone_trains_as_sft(tmp_path: Path) -> None:
    words = ["optim.lr=1e-2", "scheduler=constant", "trainer.max_steps=2"]
    found = losses(tiny(tmp_path / "mine", "stage=mine", *words))
    assert found == losses(tiny(tmp_path / "sft", "stage=sft", *words))
    assert len(found) == 2


@pytest.mark.usefixtures("_mine")
def test_a_stage_takes_the_defaults_that_it_does_not_declare() -> None:
    run = compose(["stage=mine"]).run
    stage, sft = run.stage, compose(["stage=sft"]).run
    assert (run.trainer.epochs, run.optim.lr) == (1.0, sft.optim.lr)
    assert (stage.recommend_batch_size(), stage.has_reference(False), stage.count_steps_per_rollout()) == (
        None,
        False,
        1,
    )
    assert [stage.count_examples_per_step(n) for n in (1, 16)] == [1, 16]


def test_stages_declare_their_sides_and_their_rollouts() -> None:
    stages = {name: _options["stage"][name] for name in ("pt", "sft", "rm", "dpo", "kto", "grpo", "ppo")}
    assert [n for n, stage in stages.items() if stage.sides == 2] == ["rm", "dpo"]  # type: ignore[attr-defined]
    assert [n for n, stage in stages.items() if stage.rolls_out] == ["grpo", "ppo"]  # type: ignore[attr-defined]
    assert [n for n, stage in stages.items() if not stage.speaks] == ["rm"]  # type: ignore[attr-defined]
    assert [n for n, stage in stages.items() if stage.loss_by_row] == ["pt", "sft"]  # type: ignore[attr-defined]
