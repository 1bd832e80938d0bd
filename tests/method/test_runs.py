"""Every method in whole runs: it learns, resumes bit for bit, and exports what it trained."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.end_to_end.runs import copy_until, losses, rows, tiny, weights
from tests.method.models import METHODS, RATES, build_adapted, build_base, compose_run, compute_logits
from transformers import AutoModelForCausalLM

from fulgurite.config.run import load_options
from fulgurite.config.schema import list_options
from fulgurite.export.model import export_main, load_run
from fulgurite.method.qlora import quantise
from fulgurite.precision.policy import build as settle

STEPS, SAVED = 25, 23
"""The steps of a run, and the step of a checkpoint from which it can be resumed."""


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a method's run, which is trained once for all tests here."""

    @functools.cache
    def train(method: str) -> Path:
        folder = tmp_path_factory.mktemp(method)
        return tiny(folder, *get_words(method))

    return train


def get_words(method: str) -> list[str]:
    rate = RATES.get(method, 1e-2)
    return [
        f"method={method}", *METHODS[method], f"optim.lr={rate}", f"trainer.max_steps={STEPS}", "scheduler=constant",
        f"trainer.save_every={SAVED}", "trainer.keep_checkpoints=5",
    ]


def test_every_method_and_preset_is_in_the_table() -> None:
    load_options()
    presets = {p.stem for p in Path("conf/method").glob("*.yaml")}
    assert set(METHODS) == presets
    assert len(list_options("method")) == 9
    assert len(METHODS) == 13


@pytest.mark.parametrize("method", sorted(METHODS))
def test_method_begins_as_the_base_model(method: str) -> None:
    # vera's vectors begin at a tenth and zero; pissa's base and adapter add up; llama_pro's copies add nothing
    reference = build_base()
    if method == "qlora":
        run = compose_run("model=tiny", "method=qlora", "precision=fp32")
        reference = quantise(run.method, reference, settle(run.precision, "cpu"))  # type: ignore[arg-type]
    found, expected = compute_logits(build_adapted(method)), compute_logits(reference)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_method_lowers_the_loss(run_of: Callable[[str], Path], method: str) -> None:
    found = losses(run_of(method))
    assert len(found) == STEPS
    # the first loss is the untrained model's; rslora's second is near its last
    assert sum(found[-3:]) / 3 < found[0] - 0.05


@pytest.mark.parametrize("method", sorted(METHODS))
def test_resumed_run_equals_the_uninterrupted_run(tmp_path: Path, run_of: Callable[[str], Path], method: str) -> None:
    whole = run_of(method)
    part = copy_until(whole, tmp_path / "part", SAVED)
    assert not (part / "checkpoints" / f"step-{STEPS}").exists()
    tiny(part, *get_words(method))
    assert (part / "checkpoints" / f"step-{STEPS}").is_dir()
    assert rows(part) == rows(whole)
    assert weights(part).keys() == weights(whole).keys()
    for name, tensor in weights(whole).items():
        assert torch.equal(weights(part)[name], tensor), name
    before = weights(whole, f"step-{SAVED}")
    assert any(not torch.equal(before[name], tensor) for name, tensor in weights(whole).items())


@pytest.mark.parametrize("method", sorted(METHODS))
def test_an_export_is_what_was_trained(tmp_path: Path, run_of: Callable[[str], Path], method: str) -> None:
    run = run_of(method)
    assert export_main([f"run={run}", f"out={tmp_path / 'out'}"]) == 0
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    theirs = compute_logits(plain)
    ours = compute_logits(load_run(run, exact=True).model)
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)
    assert (theirs - compute_logits(build_base())).abs().max() > 1e-3  # something was learned
