"""The parameters of dpo, kto and rm: derived values, and refusals of what a loss does not read."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from tests.end_to_end.runs import rows
from tests.stage.preference_data import pairs, written

from fulgurite.config.compose import compose
from fulgurite.errors import ConfigError
from fulgurite.plan.preflight import build_checked_source
from fulgurite.run.folder import read_config


def test_batch_sizes_epochs_and_rates_follow_the_stage() -> None:
    for words, lr in (("stage=dpo", 3e-4), ("stage=dpo method=full", 1e-6), ("stage=kto", 3e-4), ("stage=rm", 3e-4)):
        run = compose(words.split()).run
        assert (run.optim.lr, run.trainer.epochs, run.scheduler.warmup_ratio) == (lr, 1.0, 0.1)


def test_ipo_takes_means_unless_sums_are_asked_for(run: Any) -> None:
    words = [
        "stage=dpo", "stage.loss=ipo", "method=full", "trainer.max_steps=2", "optim.lr=1e-3", "trainer.max_grad_norm=0",
    ]
    assert compose(words).run.stage.length_normalize is True
    assert compose([*words, "stage.length_normalize=false"]).run.stage.length_normalize is False
    assert compose(["stage=dpo"]).run.stage.length_normalize is False
    assert compose(["stage=dpo", "stage.loss=simpo"]).run.stage.length_normalize is None
    means, sums = (rows(run(name, *words, f"stage.length_normalize={name}"))[1] for name in ("true", "false"))
    # equation 17: the loss is (margin - 1 / (2 beta))²; a mean margin is a sum's, divided by some tens of tokens
    mean, total = (5 - math.sqrt(row["train/loss"]) for row in (means, sums))
    assert 0 < 3 * mean < total


@pytest.mark.parametrize(
    ("loss", "origin", "meant"),
    [
        ("ipo", "default", True),
        ("ipo", "command line", False),
        ("sigmoid", "default", False),
        ("hinge", "default", None),
    ],
)
def test_a_run_of_an_earlier_version_keeps_its_mathematics(
    loss: str, origin: str, meant: bool | None, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(f"stage: {{option: dpo, loss: {loss}, length_normalize: false}}\n")
    (tmp_path / "provenance.json").write_text(
        json.dumps({"knobs": {"stage.length_normalize": {"value": False, "origin": origin}}})
    )
    assert read_config(tmp_path)["stage"]["length_normalize"] is meant


def test_length_normalization_changes_beta_and_simpo_wants_more_than_1() -> None:
    assert compose(["stage=dpo", "stage.length_normalize=true"]).run.stage.beta == 5.0
    simpo = ["stage=dpo", "stage.loss=simpo"]
    assert "stage.beta=0.5 is outside what is usual here (2 to 10)" in compose([*simpo, "stage.beta=0.5"]).warnings[0]
    assert compose([*simpo, "stage.beta=4"]).run.stage.gamma == 2.0
    assert "stage.gamma=5" in compose([*simpo, "stage.gamma=5"]).warnings[0]


UNREAD = {
    "stage=dpo stage.gamma=0.5":
        "stage.loss=sigmoid does not use stage.gamma=0.5, only these losses do: simpo; leave it out",
    "stage=dpo stage.loss=ipo stage.label_smoothing=0.1": "stage.loss=ipo does not use stage.label_smoothing=0.1",
    "stage=dpo stage.loss=hinge stage.tau=0.1":
        "stage.loss=hinge does not use stage.tau=0.1, only these losses do: discopop; leave it out",
    "stage=dpo stage.loss=simpo stage.length_normalize=true": "simpo divides by the lengths anyway; leave it out.",
    "stage=dpo stage.loss=hinge stage.length_normalize=true":
        "is only for the losses sigmoid, ipo, and stage.loss=hinge does not use it; leave it out.",
    "stage=dpo stage.loss=orpo stage.length_normalize=false":
        "stage.length_normalize=false is only for the losses sigmoid, ipo, and stage.loss=orpo",
    "stage=dpo stage.loss=exo_pair stage.label_smoothing=0":
        "not possible with stage.loss=exo_pair, which uses its logarithm",
    "stage=dpo stage.loss=hinge stage.orpo_weight=0.2":
        "stage.loss=hinge does not use stage.orpo_weight=0.2; leave it out",
    "stage=dpo stage.loss=orpo stage.reference=x": "stage.loss=orpo has no reference",
    "stage=dpo stage.loss=cpo stage.reference_mode=copy": "stage.loss=cpo has no reference",
    "stage=dpo stage.reference=x stage.reference_mode=adapter": "with stage.reference use stage.reference_mode=copy",
    "stage=kto stage.reference_mode=precomputed": "not possible with stage=kto",
    "stage=dpo data.packing=best_fit": "data.packing=best_fit is not possible with stage=dpo",
    "stage=rm data.mask=all": "data.mask=all is not possible with stage=rm",
}


@pytest.mark.parametrize("words", UNREAD)
def test_a_knob_that_would_not_be_read_is_refused_in_one_sentence(words: str, tmp_path: Path) -> None:
    composed = compose([*words.split(), "data=file", f"data.path={written(tmp_path / 'a.jsonl', pairs(3))}"])
    with pytest.raises(ConfigError) as caught:
        build_checked_source(composed)
    assert UNREAD[words] in str(caught.value)
    assert "\n" not in str(caught.value)
