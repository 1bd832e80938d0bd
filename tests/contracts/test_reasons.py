"""Each derived value has a reason of its own: it speaks of its parameter, and no other parameter has the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from fulgurite.config.decision import Decision
from fulgurite.config.facts import Facts
from fulgurite.config.losses import list_losses
from fulgurite.config.resolve import fill_run
from fulgurite.config.run import load_options
from fulgurite.config.schema import list_options
from fulgurite.explain.knob_index import build_default_run

load_options()
OWN = {
    "data.max_length": r"percentile|longest|tokens", "data.packing": r"pack|padding|privacy",
    "method.alpha": r"scale|adapter", "method.rank": r"model of|PEFT|adapter",
    "optim.lr": r"model of|Muon", "optim.adam_lr": r"model of|optim\.lr", "scheduler.timescale": r"warmup|10",
    "scheduler.warmup_ratio": r"of the steps", "scheduler.warmup_steps": r"of \d+ steps",
    "stage.beta": r"^{loss}: ", "stage.clip_high": r"clip", "stage.gamma": r"margin|stage\.beta",
    "stage.label_smoothing": r"smoothing", "stage.length_normalize": r"sum|mean", "stage.orpo_weight": r"^orpo: ",
    "stage.rollout_batch": r"rollout|device",
    "stage.reference_mode": r"reference|adapter|frozen copy", "stage.sft_weight": r"term", "stage.tau": r"temperature",
    "trainer.devices": r"device|GPU|process", "trainer.epochs": r"pass", "trainer.eval_every": r"1/5 of the run",
    "trainer.global_batch_size": r"batch|pairs|baseline|rollout|examples|row",
    "trainer.micro_batch_size": r"micro-batch",
    "trainer.num_nodes": r"machine", "trainer.save_every": r"1/10 of the run",
}
"""What the reason of a parameter must speak of; `{loss}` is the run's."""


def _list_runs(stage: str) -> Iterator[tuple[str, str, str, str]]:
    family = getattr(list_options("stage")[stage], "losses", "")
    for loss in list_losses(family) if family else ("",):
        for method in list_options("method"):
            for optim in ("adamw", "muon", "lion") if method == "full" else ("adamw",):
                yield loss, method, optim, "inverse_sqrt" if method == "lora" else "cosine"


def _derive(stage: str, loss: str, method: str, optim: str, scheduler: str) -> list[Decision]:
    run = build_default_run(stage=stage, method=method, optim=optim, scheduler=scheduler)
    if loss:
        run = replace(run, stage=replace(run.stage, loss=loss))  # type: ignore[call-arg]
    facts = Facts(percentile_99=500, rows=10_000, model_length=2048, total_steps=1000)
    found: list[Decision] = []
    for needs in ("config", "data", "steps"):
        run, decisions = fill_run(run, facts, needs)
        found += decisions
    return found


@pytest.mark.parametrize("stage", list_options("stage"))
def test_each_reason_is_about_its_own_parameter_and_of_no_other(stage: str) -> None:
    for loss, method, optim, scheduler in _list_runs(stage):
        decisions = [d for d in _derive(stage, loss, method, optim, scheduler) if d.value is not None]
        for decision in decisions:
            own = OWN[decision.parameter].replace("{loss}", loss)
            assert re.search(own, decision.because.english), (decision, loss, method)
        reasons = [decision.because.english for decision in decisions]
        assert len(set(reasons)) == len(reasons), (stage, loss, method, reasons)


def test_reason_of_a_loss_is_that_loss() -> None:
    for loss in list_losses("dpo"):
        for decision in _derive("dpo", loss, "lora", "adamw", "cosine"):
            if decision.parameter.startswith("stage.") and decision.parameter != "stage.reference_mode":
                assert loss in decision.because.english or decision.parameter == "stage.gamma", decision
