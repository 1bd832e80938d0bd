"""The reference model, had in three ways: each is the policy as it was, and stays so."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.end_to_end.runs import losses, rows, weights

from fulgurite.config.compose import compose
from fulgurite.config.schema import build
from fulgurite.errors import ConfigError
from fulgurite.export.model import export_main
from fulgurite.stage.log_probs import TokenScorer
from fulgurite.stage.reference import AdapterOff, Frozen, build_start_reference
from fulgurite.stage.rollout import Drawn
from fulgurite.stage.rollout_buffer import Buffer

REFERENCES = {
    "adapter": ["method=lora"], "copy": ["method=lora", "stage.reference_mode=copy"],
    "precomputed": ["method=lora", "stage.reference_mode=precomputed"],
}


def test_three_ways_to_a_reference_give_the_same_run(run: Any) -> None:
    adapter, *others = [
        run(name, "stage=dpo", *words, "trainer.max_steps=5", "trainer.eval_every=5")
        for name, words in REFERENCES.items()
    ]
    for other in others:
        for mine, theirs in zip(rows(other), rows(adapter), strict=True):
            assert mine == pytest.approx(theirs, rel=1e-4, abs=2e-5)


@pytest.mark.parametrize("mode", ["copy", "precomputed"])
def test_full_training_has_a_reference_that_stays(mode: str, run: Any) -> None:
    folder = run(mode, "stage=dpo", "method=full", f"stage.reference_mode={mode}", "trainer.max_steps=6")
    found = rows(folder)
    assert found[0]["train/loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert found[-1]["train/reward_margin"] > 0.1
    assert not [name for name in weights(folder) if "reference" in name]


def test_precomputed_log_probs_are_computed_once(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["stage=dpo", "stage.reference_mode=precomputed", "trainer.max_steps=2", "seed=77"]
    first = run("first", *words)
    monkeypatch.setattr("fulgurite.stage.reference.collate_preferences", None)  # nothing is to be computed
    assert losses(run("second", *words)) == losses(first)


def test_dropout_is_off_in_policy_and_reference(run: Any) -> None:
    plain, dropped = run("plain", "stage=dpo"), run("dropped", "stage=dpo", "method.dropout=0.5")
    assert losses(dropped) == losses(plain)
    assert losses(plain)[0] == pytest.approx(math.log(2), abs=1e-6)


def test_an_adapter_that_training_goes_on_from_is_part_of_its_precomputed_reference(run: Any, tmp_path: Path) -> None:
    """Both adapters lie on one base: the second run may not read the first one's table."""
    for n, rate in enumerate(("0.05", "0.1")):
        trained = run(f"trained{n}", "stage=dpo", f"optim.lr={rate}", "trainer.max_steps=4")
        assert export_main([f"run={trained}", f"out={tmp_path / f'adapter{n}'}", "merge=false"]) == 0
    for n in (0, 1, 0):
        folder = run(
            f"run{n}", "stage=dpo", "stage.reference_mode=precomputed",
            f"method.adapter_path={tmp_path / f'adapter{n}'}", "trainer.max_steps=1"
        )
        assert losses(folder)[0] == pytest.approx(math.log(2), abs=1e-5)
        shutil.rmtree(folder)


def test_another_model_as_the_reference(run: Any, tmp_path: Path) -> None:
    first = run("first", "stage=dpo", "optim.lr=1e-2", "trainer.max_steps=4")
    for mode in ("copy", "precomputed"):
        folder = run(
            mode, "stage=dpo", f"stage.reference={first}", f"stage.reference_mode={mode}", "trainer.max_steps=1"
        )
        row = rows(folder)[0]
        # the policy is the base, from which `first` has moved towards the chosen answers: the base prefers them less
        assert row["train/reward_margin"] < -0.05
        assert row["train/loss"] > math.log(2)


def test_an_adapter_reference_needs_an_adapter(run: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"stage\.reference_mode=adapter is not possible: this method has no adapter; use"
    ):
        run("run", "stage=dpo", "method=full", "stage.reference_mode=adapter")


@pytest.mark.parametrize("method", ["full", "lora", "layerwise"])
def test_the_reference_stays_what_the_policy_was(method: str) -> None:
    from fulgurite.precision.policy import build as settle

    # layerwise trains whole layers beside its adapter, which a model with its adapter disabled would keep
    rules = ["method.rules=['last:1 full','rest lora rank=4']"] if method == "layerwise" else []
    run = compose(["model=tiny", "precision=fp32", f"method={method}", *rules]).run
    dtypes = settle(run.precision, "cpu")
    model = build(run.method, build(run.model, dtypes.frozen).model, dtypes).eval()
    policy = TokenScorer(model, 1.0, 512)
    asked = build_start_reference(policy, run.method.begins_at_zero())
    assert isinstance(asked, AdapterOff if method == "lora" else Frozen)
    drawn = Drawn([[3, 4]], [[0.0, 0.0]], [False])
    batch = Buffer.of(0, [0], [[5, 6]], drawn, torch.device("cpu")).build_micro_batch([0])
    start = policy.score(batch)[0].detach()
    torch.testing.assert_close(asked(batch), start, rtol=0, atol=0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05)
    assert not torch.allclose(policy.score(batch)[0], start, atol=1e-4)
    torch.testing.assert_close(asked(batch), start, rtol=0, atol=0)


def test_an_adapter_that_already_does_something_is_copied_into_the_reference() -> None:
    from fulgurite.precision.policy import build as settle

    run = compose(["model=tiny", "precision=fp32", "method=lora"]).run
    dtypes = settle(run.precision, "cpu")
    model = build(run.method, build(run.model, dtypes.frozen).model, dtypes).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.1)
    policy = TokenScorer(model, 1.0, 512)
    batch = Buffer.of(0, [0], [[5, 6]], Drawn([[3, 4]], [[0.0, 0.0]], [False]), torch.device("cpu")).build_micro_batch(
        [0]
    )
    start = policy.score(batch)[0].detach()
    torch.testing.assert_close(build_start_reference(policy, identity=False)(batch), start, rtol=0, atol=0)
