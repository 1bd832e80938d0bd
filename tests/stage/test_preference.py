"""DPO and KTO through the real rows, batches, stage and Lightning: exact steps, and the check before step 1."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import cells
from tests.end_to_end.runs import losses, rows, weights
from tests.stage.preference_data import judged, written
from torch.nn import functional

from fulgurite.config.compose import compose
from fulgurite.data.preference_dataset import collate_preferences
from fulgurite.errors import TrainingFailed
from fulgurite.loss import preference as by_hand
from fulgurite.run.load import load_run
from fulgurite.stage import preference as stages
from fulgurite.stage.preference_table import list_names
from fulgurite.train.experiment import Experiment

STEPS = {
    "sigmoid": ["stage=dpo"], "aot": ["stage=dpo", "stage.loss=aot"],
    "bco_pair": ["stage=dpo", "stage.loss=bco_pair", "stage.beta=0.5"],
    "orpo": ["stage=dpo", "stage.loss=orpo"], "kto": ["stage=kto", "stage.beta=0.5"],
    "rm": ["stage=rm", "stage.center_rewards_coefficient=0.01"],
}


@pytest.mark.parametrize(("name", "method"), cells(STEPS, ["full", "lora"]))
def test_micro_batches_change_nothing(name: str, method: str, run: Any) -> None:
    words = [
        *STEPS[name], f"method={method}", "trainer.max_steps=3", "optim=sgd", "optim.lr=0.5", "trainer.eval_every=3",
    ]
    whole, *others = [run(f"{m}", f"trainer.micro_batch_size={m}", *words) for m in (8, 3, 1)]
    for other in others:
        assert [set(row) for row in rows(other)] == [set(row) for row in rows(whole)]
        for mine, theirs in zip(rows(other), rows(whole), strict=True):
            assert mine == pytest.approx(theirs, rel=2e-4, abs=2e-5)
        for key, tensor in weights(whole).items():
            torch.testing.assert_close(weights(other)[key], tensor, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", [*list_names(), "sigmoid stage.length_normalize=true", "sigmoid stage.sft_weight=0.5",
                                  "ipo stage.length_normalize=false"])
def test_the_first_step_is_that_of_whole_logits_and_the_formula(name: str, run: Any) -> None:
    """Loss and gradient norm of step 1 from transformers' own logits, one answer at a time; both models are one."""
    words = [
        "stage=dpo", *f"stage.loss={name}".split(), "method=full", "trainer.max_steps=1", "optim.lr=1e-12",
        "trainer.max_grad_norm=0",
    ]
    folder = run("run", *words)
    row = rows(folder)[0]
    stage, model = load_run(folder, exact=True).run.stage, load_run(folder, exact=True).model
    batch = step_batch(folder)
    loss = torch.zeros(())
    for n in range(8):
        logp, count = zip(*(answer(model, batch, i) for i in (n, n + 8)), strict=True)
        loss = loss + one_pair(stage, logp, count, batch, n) / 8
    loss.backward()
    norm = math.sqrt(sum(float(p.grad.pow(2).sum()) for p in model.parameters() if p.grad is not None))
    assert row["train/loss"] == pytest.approx(float(loss.detach()), rel=1e-5)
    assert row["train/grad_norm"] == pytest.approx(norm, rel=1e-4)


def step_batch(folder: Path) -> dict[str, Any]:
    """The pairs of a run's first step, in one batch."""
    composed = compose(["model=tiny", "precision=fp32", *again(folder)])
    data = Experiment(composed).data
    return collate_preferences(data.rows, [int(n) for n in data.order.list_rows(0)])


def again(folder: Path) -> list[str]:
    words = json.loads((folder / "provenance.json").read_text())["overrides"]
    made = folder.with_name("again")
    made.mkdir()
    return [w for w in words if not w.startswith(("run_dir=", "model=", "precision="))] + [f"run_dir={made}"]


def answer(model: Any, batch: dict[str, Any], i: int) -> tuple[torch.Tensor, int]:
    """The summed log-probability of one answer, and its tokens."""
    logits, targets = (
        model(input_ids=batch["input_ids"][i : i + 1, : batch["lengths"][i]]).logits[0],
        batch["targets"][i],
    )
    targets = targets[: len(logits)]
    return -functional.cross_entropy(logits, targets, ignore_index=-100, reduction="sum"), int((targets >= 0).sum())


def one_pair(stage: Any, logp: Any, count: Any, batch: dict[str, Any], n: int) -> torch.Tensor:
    name, beta = str(stage.loss), stage.get_factor()
    c, r = (x - x.detach() for x in logp)  # log ratios to a reference that is the same
    mean = [x / k for x, k in zip(logp, count, strict=True)]
    if stage.length_normalize:
        c, r = c / count[0], r / count[1]
    calls: dict[str, Callable[[], torch.Tensor]] = {
        "robust": lambda: by_hand.robust(c, r, beta, stage.label_smoothing),
        "ipo": lambda: (c - r - 1 / (2 * beta)) ** 2,
        "exo_pair": lambda: by_hand.exo_pair(c, r, beta, stage.label_smoothing),
        "discopop": lambda: by_hand.discopop(c, r, beta, 0.05),
        "orpo": lambda: by_hand.orpo(*mean, beta), "simpo": lambda: by_hand.simpo(*mean, beta, beta / 2),  # type: ignore[call-arg]
        "cpo": lambda: by_hand.cpo(*logp, beta), "aot": lambda: by_hand.aot(c - r, torch.zeros(()), beta),  # type: ignore[call-arg]
    }
    loss = calls[name]() if name in calls else getattr(by_hand, name)(c, r, beta)
    return loss - stage.sft_weight * mean[0]


@pytest.mark.parametrize("name", ["sigmoid", "aot"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_before_the_first_step_the_loss_is_ln_2(name: str, method: str, precision: str, run: Any) -> None:
    folder = run(
        "run", "stage=dpo", f"stage.loss={name}", f"method={method}", f"precision={precision}", "trainer.max_steps=1"
    )
    row = rows(folder)[0]
    assert row["train/loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert (row["train/reward_chosen"], row["train/reward_rejected"], row["train/kl"]) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("stage", ["dpo", "kto"])
def test_a_policy_that_is_not_its_reference_at_first_stops_the_run(
    stage: str, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = stages.AnswerScorer.__call__

    def shifted(self: Any, batch: dict[str, Any]) -> torch.Tensor:
        return inner(self, batch) + (0.001 if torch.is_grad_enabled() else 0.0) * torch.arange(len(batch["input_ids"]))

    monkeypatch.setattr(stages.AnswerScorer, "__call__", shifted)
    with pytest.raises(
        TrainingFailed, match="Before the first step policy and reference are the same model, whose loss is 0"
    ):
        run("run", f"stage={stage}")
    with pytest.raises(TrainingFailed):
        run("again", f"stage={stage}", "stage.reference_mode=copy")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_precomputed_reference_of_another_model_stops_the_run(
    precision: str, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another model's table: one that was trained for two steps, with which the loss is off by no more than 0.3."""
    words = ["stage=dpo", "stage.reference_mode=precomputed", f"precision={precision}", "trainer.max_steps=1"]
    assert losses(run("sound", *words))[0] == pytest.approx(math.log(2), abs=2e-3)
    other = load_run(run("other", "stage=dpo", "method=full", "optim.lr=6e-4", "trainer.max_steps=2")).model
    inner = stages.precompute
    monkeypatch.setattr(stages, "precompute", lambda scorer, *more: inner(stages.AnswerScorer(other, 512), *more))
    with pytest.raises(
        TrainingFailed,
        match=r"the same model, but an answer of \d+ tokens has a log-probability of -[\d.]+ now and of -",
    ):
        run("wrong", *words)
    monkeypatch.setattr(stages.PreferenceModule, "check_table", lambda *_: None)
    assert losses(run("unseen", *words))[0] == pytest.approx(math.log(2), abs=0.3)


@pytest.mark.parametrize(("precision", "share"), [("fp32", 2e-4), ("bf16", 0.4)])
def test_what_rounding_may_do_to_a_precomputed_reference(
    precision: str, share: float, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table that is off by `share` nats times the root of the tokens is refused, half of the bound is not."""
    words = ["stage=dpo", "stage.reference_mode=precomputed", f"precision={precision}", "trainer.max_steps=1",
        "trainer.micro_batch_size=4"]
    inner, off = stages.PreferenceModule.compute_answers, 0.0

    def shifted(self: Any, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        policy, _ = inner(self, batch)
        return policy, policy.detach() + off * (batch["targets"] >= 0).sum(1).sqrt() * torch.tensor(
            [1, -1, 0, 0, 0, 0, 0, 0]
        )

    monkeypatch.setattr(stages.PreferenceModule, "compute_answers", shifted)
    off = share / 4
    run("rounded", *words)
    off = share
    with pytest.raises(TrainingFailed, match=r"the adapter changes the model before training"):
        run("wrong", *words)


def test_kto_warns_of_a_step_with_too_few(run: Any, capfd: pytest.CaptureFixture[str]) -> None:
    run("few", "stage=kto")
    assert "warning: trainer.global_batch_size=8: KTO estimates its baseline" in "".join(capfd.readouterr())
    run("enough", "stage=kto", "trainer.global_batch_size=16")
    assert "warning: trainer.global_batch_size" not in "".join(capfd.readouterr())


def test_kto_warns_of_classes_out_of_balance(run: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    few = written(tmp_path / "few.jsonl", [r for n, r in enumerate(judged(20)) if r["label"] or n % 5 == 0])
    words = ["stage=kto", f"data.path={few}", "trainer.global_batch_size=16", "data.val_fraction=0"]
    run("warned", *words)
    assert (
        "20 good and 4 bad answers, weighted 5 : 1; KTO needs 1:1 to 4:3: set stage.desirable_weight=0.2"
        in "".join(capfd.readouterr())
    )
    run("heeded", *words, "stage.desirable_weight=0.2")
    run("equal", "stage=kto", "trainer.global_batch_size=16")
    assert "KTO needs" not in "".join(capfd.readouterr())


def test_kto_without_another_prompt_warns_that_it_has_no_baseline(
    run: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    one = written(tmp_path / "one.jsonl", [{**r, "prompt": "What?"} for r in judged(20)])
    words = ["stage=kto", "trainer.global_batch_size=16", "data.val_fraction=0", "optim.lr=1e-2", "trainer.max_steps=4"]
    folder = run("one", *words, f"data.path={one}")
    assert "warning: all answers have the same prompt, so KTO has no baseline" in "".join(
        capfd.readouterr()
    )
    assert [row["train/kl"] for row in rows(folder)] == [0.0] * 4
    assert any(row["train/kl"] > 0 for row in rows(run("many", *words)))
    assert "to one prompt" not in "".join(capfd.readouterr())


# --- knobs: each loss has its own, and what it does not read is refused


def test_ktos_baseline_is_over_the_whole_step_and_never_negative(run: Any) -> None:
    folder = run("run", "stage=kto", "optim.lr=1e-2", "trainer.max_steps=5", "trainer.micro_batch_size=1")
    found = [row["train/kl"] for row in rows(folder) if "train/kl" in row]
    assert found[0] == 0.0
    assert all(x >= 0 for x in found)
    assert any(x > 0 for x in found)
