"""The declarations of privacy: what they fill in and which runs they refuse."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fulgurite.config.compose import compose
from fulgurite.config.facts import Facts
from fulgurite.config.resolve import fill
from fulgurite.config.schema import list_options
from fulgurite.errors import ConfigError
from fulgurite.plan.preflight import refuse_impossible
from fulgurite.privacy.accountant import compute_delta, solve_noise
from fulgurite.privacy.config import DpSgd

REFUSED = {
    "data.packing=best_fit": "several examples into one; use data.packing=none",
    "data.shuffle=false": "draws its examples at random",
    "trainer.devices=2": "runs in one process, but this run has 2; use trainer.devices=1",
    "precision=fp16": "clips unscaled gradients, but precision=fp16 scales them",
    "scheduler=reduce_lr_on_plateau":
        "adds no noise to the validation loss, which scheduler=reduce_lr_on_plateau follows",
    "privacy.epsilon=200 privacy.accountant=prv": "up to epsilon 100, but privacy.epsilon is 200; use privacy.acc",
    "data=file data.path=x.jsonl data.weights=2.0": "data.weights above 1 repeat examples",
}


@pytest.mark.parametrize("words", REFUSED)
def test_runs_that_cannot_be_private_are_refused_in_one_sentence(words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        refuse_impossible(compose(["privacy=dp_sgd", *words.split()]).run)
    assert REFUSED[words] in str(caught.value)
    assert str(caught.value).startswith("privacy=dp_sgd ")
    assert "\n" not in str(caught.value)
    # without privacy it is no trouble
    refuse_impossible(compose(words.split()[:1] if "privacy" not in words else []).run)


@pytest.mark.parametrize(
    ("group", "name", "says"),
    [("stage", "dpo", "no loss of a single example"), ("method", "oft", "per example are not verified")],
)
def test_stages_and_methods_that_are_not_proven_are_refused(group: str, name: str, says: str) -> None:
    run = replace(compose(["privacy=dp_sgd"]).run, **{group: list_options(group)[name]()})
    said = str(DpSgd().find_refusal(run))
    assert f"{group}={name}" in said
    assert says in said


def test_empty_delta_and_noise_are_filled_with_their_reasons() -> None:
    composed = compose(["privacy=dp_sgd", "trainer.global_batch_size=50", "model=tiny", "data.max_length=64"])
    composed = fill(composed, Facts(rows=1000, total_steps=60), "steps")
    p = composed.run.privacy
    assert p.delta == compute_delta(1000) == pytest.approx(10**-3.6)
    assert p.noise_multiplier == solve_noise(8.0, p.delta, 0.05, 60)
    why = composed.provenance["privacy.noise_multiplier"].reason
    assert "60 steps that draw each example with probability 0.05 spend epsilon 8" in why
    assert "1000 examples to the power of -1.2" in composed.provenance["privacy.delta"].reason


def test_the_refusal_comes_before_torch_is_loaded(tmp_path: Path) -> None:
    code = (
        "import sys; from fulgurite.cli.main import main; status = main(sys.argv[1:]);"
        "print(status, 'torch' in sys.modules, 'opacus' in sys.modules)"
    )
    words = ["train", "privacy=dp_sgd", "data.packing=best_fit", "model=tiny", f"run_dir={tmp_path / 'run'}"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["2", "False", "False"], done.stderr
    assert "error: privacy=dp_sgd protects one example" in done.stderr
    assert not (tmp_path / "run").exists()
