"""DPO and KTO through the real rows, batches, stage and Lightning: exact steps, three ways to a reference, the check before step 1."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import cells
from tests.end_to_end.runs import losses, rows, tiny, weights
from torch.nn import functional

from fulgurite.config.compose import compose
from fulgurite.data.preference_dataset import collate_preferences
from fulgurite.errors import ConfigError, TrainingFailed
from fulgurite.export.model import export_main
from fulgurite.loss import preference as by_hand
from fulgurite.plan.preflight import build_checked_source
from fulgurite.run.folder import read_config
from fulgurite.run.load import load_run
from fulgurite.stage import preference as stages
from fulgurite.stage.preference_table import ReferenceMode, list_names
from fulgurite.stage.preference_table import get_row as declared
from fulgurite.train.experiment import Experiment

GOOD = ("the rate rises", "the loss falls", "a schedule of the rate", "warmup lets it rise, slowly, for a while")
BAD = ("houses and rivers", "once upon a time there was", "animals and numbers", "a little model")


def pairs(count: int) -> list[dict[str, Any]]:
    return [{"prompt": f"What is {n}?", "chosen": f"{GOOD[n % 4]} {n}.", "rejected": f"{BAD[n * 7 % 4]} {n}."} for n in range(count)]


def judged(count: int) -> list[dict[str, Any]]:
    each = [(p["prompt"], p[side], side == "chosen") for p in pairs(count) for side in ("chosen", "rejected")]
    return [{"prompt": prompt, "completion": answer, "label": good} for prompt, answer, good in each]


def written(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return path


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    """`run(name, *words)`: a run on 40 pairs, or on as many judged answers in stage=kto."""
    files = {"kto": written(tmp_path / "kto.jsonl", judged(20))}
    pair = written(tmp_path / "pairs.jsonl", pairs(40))

    def make(name: str, *words: str) -> Path:
        stage = next(w.partition("=")[2] for w in words if w.startswith("stage="))
        usual = ["data=file", f"data.path={files.get(stage, pair)}", "data.max_samples=null", "optim.lr=1e-3", "scheduler=constant"]
        return tiny(tmp_path / name, *usual, "trainer.global_batch_size=8", "data.val_fraction=0.25", *words)

    return make


STEPS = {
    "sigmoid": ["stage=dpo"], "aot": ["stage=dpo", "stage.loss=aot"], "bco_pair": ["stage=dpo", "stage.loss=bco_pair", "stage.beta=0.5"],
    "orpo": ["stage=dpo", "stage.loss=orpo"], "kto": ["stage=kto", "stage.beta=0.5"],
    "rm": ["stage=rm", "stage.center_rewards_coefficient=0.01"],
}


@pytest.mark.parametrize(("name", "method"), cells(STEPS, ["full", "lora"]))
def test_micro_batches_change_nothing(name: str, method: str, run: Any) -> None:
    words = [*STEPS[name], f"method={method}", "trainer.max_steps=3", "optim=sgd", "optim.lr=0.5", "trainer.eval_every=3"]
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
    """loss and gradient norm of step 1 from transformers' own logits, one answer at a time, policy and reference the same weights."""
    words = ["stage=dpo", *f"stage.loss={name}".split(), "method=full", "trainer.max_steps=1", "optim.lr=1e-12", "trainer.max_grad_norm=0"]
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
    logits, targets = model(input_ids=batch["input_ids"][i : i + 1, : batch["lengths"][i]]).logits[0], batch["targets"][i]
    targets = targets[: len(logits)]
    return -functional.cross_entropy(logits, targets, ignore_index=-100, reduction="sum"), int((targets >= 0).sum())


def one_pair(stage: Any, logp: Any, count: Any, batch: dict[str, Any], n: int) -> torch.Tensor:
    name, beta = str(stage.loss), stage.get_factor()
    c, r = (x - x.detach() for x in logp)  # log ratios to a reference that is the same
    mean = [x / k for x, k in zip(logp, count, strict=True)]
    if stage.length_normalize:
        c, r = c / count[0], r / count[1]
    calls: dict[str, Callable[[], torch.Tensor]] = {
        "robust": lambda: by_hand.robust(c, r, beta, stage.label_smoothing), "ipo": lambda: (c - r - 1 / (2 * beta)) ** 2,
        "exo_pair": lambda: by_hand.exo_pair(c, r, beta, stage.label_smoothing), "discopop": lambda: by_hand.discopop(c, r, beta, 0.05),
        "orpo": lambda: by_hand.orpo(*mean, beta), "simpo": lambda: by_hand.simpo(*mean, beta, beta / 2),
        "cpo": lambda: by_hand.cpo(*logp, beta), "aot": lambda: by_hand.aot(c - r, torch.zeros(()), beta),
    }
    loss = calls[name]() if name in calls else getattr(by_hand, name)(c, r, beta)
    return loss - stage.sft_weight * mean[0]


REFERENCES = {
    "adapter": ["method=lora"], "copy": ["method=lora", "stage.reference_mode=copy"],
    "precomputed": ["method=lora", "stage.reference_mode=precomputed"],
}


def test_three_ways_to_a_reference_give_the_same_run(run: Any) -> None:
    adapter, *others = [run(name, "stage=dpo", *words, "trainer.max_steps=5", "trainer.eval_every=5") for name, words in REFERENCES.items()]
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


@pytest.mark.parametrize("name", ["sigmoid", "aot"])
@pytest.mark.parametrize(("method", "precision"), [("lora", "fp32"), ("full", "fp32"), ("lora", "bf16"), ("full", "bf16")])
def test_before_the_first_step_the_loss_is_ln_2(name: str, method: str, precision: str, run: Any) -> None:
    folder = run("run", "stage=dpo", f"stage.loss={name}", f"method={method}", f"precision={precision}", "trainer.max_steps=1")
    row = rows(folder)[0]
    assert row["train/loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert (row["train/reward_chosen"], row["train/reward_rejected"], row["train/kl"]) == (0.0, 0.0, 0.0)


def test_dropout_is_off_in_policy_and_reference(run: Any) -> None:
    plain, dropped = run("plain", "stage=dpo"), run("dropped", "stage=dpo", "method.dropout=0.5")
    assert losses(dropped) == losses(plain)
    assert losses(plain)[0] == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize("stage", ["dpo", "kto"])
def test_a_policy_that_is_not_its_reference_at_first_stops_the_run(stage: str, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = stages.AnswerScorer.__call__

    def shifted(self: Any, batch: dict[str, Any]) -> torch.Tensor:
        return inner(self, batch) + (0.001 if torch.is_grad_enabled() else 0.0) * torch.arange(len(batch["input_ids"]))

    monkeypatch.setattr(stages.AnswerScorer, "__call__", shifted)
    with pytest.raises(TrainingFailed, match="Before the first step policy and reference are the same model, whose loss is 0"):
        run("run", f"stage={stage}")
    with pytest.raises(TrainingFailed):
        run("again", f"stage={stage}", "stage.reference_mode=copy")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_precomputed_reference_of_another_model_stops_the_run(precision: str, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another model's table: one that was trained for two steps, with which the loss is off by no more than 0.3."""
    words = ["stage=dpo", "stage.reference_mode=precomputed", f"precision={precision}", "trainer.max_steps=1"]
    assert losses(run("sound", *words))[0] == pytest.approx(math.log(2), abs=2e-3)
    other = load_run(run("other", "stage=dpo", "method=full", "optim.lr=6e-4", "trainer.max_steps=2")).model
    inner = stages.precompute
    monkeypatch.setattr(stages, "precompute", lambda scorer, *more: inner(stages.AnswerScorer(other, 512), *more))
    with pytest.raises(TrainingFailed, match=r"the same model, and an answer of \d+ tokens has a log-probability of -[\d.]+ now and of -"):
        run("wrong", *words)
    monkeypatch.setattr(stages.PreferenceModule, "check_table", lambda *_: None)
    assert losses(run("unseen", *words))[0] == pytest.approx(math.log(2), abs=0.3)


@pytest.mark.parametrize(("precision", "share"), [("fp32", 2e-4), ("bf16", 0.4)])
def test_what_rounding_may_do_to_a_precomputed_reference(
    precision: str, share: float, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table that is off by `share` nats times the root of the tokens is refused, one that is off by half of the bound is not."""
    words = ["stage=dpo", "stage.reference_mode=precomputed", f"precision={precision}", "trainer.max_steps=1",
        "trainer.micro_batch_size=4"]
    inner, off = stages.PreferenceModule.answers, 0.0

    def shifted(self: Any, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        policy, _ = inner(self, batch)
        return policy, policy.detach() + off * (batch["targets"] >= 0).sum(1).sqrt() * torch.tensor([1, -1, 0, 0, 0, 0, 0, 0])

    monkeypatch.setattr(stages.PreferenceModule, "answers", shifted)
    off = share / 4
    run("rounded", *words)
    off = share
    with pytest.raises(TrainingFailed, match=r"is rounding\): the adapter changes the model before it is trained"):
        run("wrong", *words)


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
        folder = run(mode, "stage=dpo", f"stage.reference={first}", f"stage.reference_mode={mode}", "trainer.max_steps=1")
        row = rows(folder)[0]
        # the policy is the base, from which `first` has moved towards the chosen answers: the base prefers them less than it
        assert row["train/reward_margin"] < -0.05
        assert row["train/loss"] > math.log(2)


def test_ktos_baseline_is_over_the_whole_step_and_never_negative(run: Any) -> None:
    folder = run("run", "stage=kto", "optim.lr=1e-2", "trainer.max_steps=5", "trainer.micro_batch_size=1")
    found = [row["train/kl"] for row in rows(folder) if "train/kl" in row]
    assert found[0] == 0.0
    assert all(x >= 0 for x in found)
    assert any(x > 0 for x in found)


def test_kto_warns_of_a_step_with_too_few(run: Any, capfd: pytest.CaptureFixture[str]) -> None:
    run("few", "stage=kto")
    assert "warning: trainer.global_batch_size=8: KTO estimates its baseline" in "".join(capfd.readouterr())
    run("enough", "stage=kto", "trainer.global_batch_size=16")
    assert "warning: trainer.global_batch_size" not in "".join(capfd.readouterr())


def test_kto_warns_of_classes_out_of_balance(run: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    few = written(tmp_path / "few.jsonl", [r for n, r in enumerate(judged(20)) if r["label"] or n % 5 == 0])
    words = ["stage=kto", f"data.path={few}", "trainer.global_batch_size=16", "data.val_fraction=0"]
    run("warned", *words)
    assert "20 good and 4 bad answers, weighted 5 : 1; KTO wants 1:1 to 4:3: take stage.desirable_weight=0.2" in "".join(capfd.readouterr())
    run("heeded", *words, "stage.desirable_weight=0.2")
    run("equal", "stage=kto", "trainer.global_batch_size=16")
    assert "KTO wants" not in "".join(capfd.readouterr())


def test_kto_without_another_prompt_has_no_baseline_and_says_so(run: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    one = written(tmp_path / "one.jsonl", [{**r, "prompt": "What?"} for r in judged(20)])
    words = ["stage=kto", "trainer.global_batch_size=16", "data.val_fraction=0", "optim.lr=1e-2", "trainer.max_steps=4"]
    folder = run("one", *words, f"data.path={one}")
    assert "warning: all answers are to one prompt, so that KTO has no baseline: 0 stands" in "".join(capfd.readouterr())
    assert [row["train/kl"] for row in rows(folder)] == [0.0] * 4
    assert any(row["train/kl"] > 0 for row in rows(run("many", *words)))
    assert "to one prompt" not in "".join(capfd.readouterr())


def test_batch_sizes_epochs_and_rates_follow_the_stage() -> None:
    for words, lr in (("stage=dpo", 1e-5), ("stage=dpo method=full", 1e-6), ("stage=kto", 5e-6), ("stage=rm", 3e-4)):
        run = compose(words.split()).run
        assert (run.optim.lr, run.trainer.epochs, run.scheduler.warmup_ratio) == (lr, 1.0, 0.1)


# --- knobs: each loss has its own, and what it does not read is refused


@pytest.mark.parametrize("name", list_names())
def test_each_loss_has_its_own_values_with_a_reason(name: str) -> None:
    composed = compose(["stage=dpo", f"stage.loss={name}"])
    stage, row = composed.run.stage, declared(name)
    assert (stage.label_smoothing, stage.tau, stage.sft_weight) == (row.smoothing, row.tau, row.sft_weight)
    assert (stage.beta, stage.orpo_weight) == ((None, row.beta) if name == "orpo" else (row.beta, None))
    assert stage.get_factor() == row.beta
    assert stage.gamma == (1.0 if name == "simpo" else None)
    assert stage.reference_mode == (ReferenceMode.adapter if row.reference else None)
    assert composed.provenance["stage.beta"].origin == "derived"
    assert name in composed.provenance["stage.beta"].reason


def test_ipo_takes_means_unless_sums_are_asked_for(run: Any) -> None:
    words = ["stage=dpo", "stage.loss=ipo", "method=full", "trainer.max_steps=2", "optim.lr=1e-3", "trainer.max_grad_norm=0"]
    assert compose(words).run.stage.length_normalize is True
    assert compose([*words, "stage.length_normalize=false"]).run.stage.length_normalize is False
    assert compose(["stage=dpo"]).run.stage.length_normalize is False
    assert compose(["stage=dpo", "stage.loss=simpo"]).run.stage.length_normalize is None
    means, sums = (rows(run(name, *words, f"stage.length_normalize={name}"))[1] for name in ("true", "false"))
    # equation 17: the loss is (margin - 1 / (2 beta))²; a mean margin is a sum's, divided by some tens of tokens
    mean, total = (5 - math.sqrt(row["train/loss"]) for row in (means, sums))
    assert 0 < 3 * mean < total


@pytest.mark.parametrize(("loss", "origin", "meant"), [
    ("ipo", "default", True), ("ipo", "command line", False), ("sigmoid", "default", False), ("hinge", "default", None),
])
def test_a_run_of_an_earlier_version_keeps_its_mathematics(loss: str, origin: str, meant: bool | None, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(f"stage: {{option: dpo, loss: {loss}, length_normalize: false}}\n")
    (tmp_path / "provenance.json").write_text(json.dumps({"knobs": {"stage.length_normalize": {"value": False, "origin": origin}}}))
    assert read_config(tmp_path)["stage"]["length_normalize"] is meant


def test_length_normalization_changes_beta_and_simpo_wants_more_than_1() -> None:
    assert compose(["stage=dpo", "stage.length_normalize=true"]).run.stage.beta == 5.0
    simpo = ["stage=dpo", "stage.loss=simpo"]
    assert "stage.beta=0.5 is outside what is usual here (2 to 10)" in compose([*simpo, "stage.beta=0.5"]).warnings[0]
    assert compose([*simpo, "stage.beta=4"]).run.stage.gamma == 2.0
    assert "stage.gamma=5" in compose([*simpo, "stage.gamma=5"]).warnings[0]


UNREAD = {
    "stage=dpo stage.gamma=0.5": "stage.gamma=0.5 is not read by stage.loss=sigmoid; leave it out, or take stage.loss=simpo.",
    "stage=dpo stage.loss=ipo stage.label_smoothing=0.1": "stage.label_smoothing=0.1 is not read by stage.loss=ipo",
    "stage=dpo stage.loss=hinge stage.tau=0.1": "stage.tau=0.1 is not read by stage.loss=hinge; leave it out, or take stage.loss=discopop.",
    "stage=dpo stage.loss=simpo stage.length_normalize=true": "simpo divides by the lengths anyway; leave it out.",
    "stage=dpo stage.loss=hinge stage.length_normalize=true": "for stage.loss=sigmoid or ipo, and hinge does not read it; leave it out.",
    "stage=dpo stage.loss=orpo stage.length_normalize=false": "stage.length_normalize=false is for stage.loss=sigmoid or ipo, and orpo",
    "stage=ppo stage.reward=[length:5] stage.kl_target=3": "stage.kl_target=3 is not read under stage.kl_control=fixed; leave it out",
    "stage=ppo stage.reward=[length:5] stage.kl_horizon=50": "stage.kl_horizon=50 is not read under stage.kl_control=fixed",
    "stage=dpo stage.loss=exo_pair stage.label_smoothing=0": "not possible with stage.loss=exo_pair, which takes its logarithm",
    "stage=dpo stage.loss=hinge stage.orpo_weight=0.2": "stage.orpo_weight=0.2 is not read by stage.loss=hinge; leave it out",
    "stage=dpo stage.loss=orpo stage.reference=x": "stage.loss=orpo has no reference",
    "stage=dpo stage.loss=cpo stage.reference_mode=copy": "stage.loss=cpo has no reference",
    "stage=dpo stage.reference=x stage.reference_mode=adapter": "with stage.reference take copy or precomputed",
    "stage=kto stage.reference_mode=precomputed": "not possible in stage=kto",
    "stage=dpo data.packing=best_fit": "data.packing=best_fit is not possible in stage=dpo",
    "stage=rm data.mask=all": "data.mask=all is not possible in stage=rm",
}


@pytest.mark.parametrize("words", UNREAD)
def test_a_knob_that_would_not_be_read_is_refused_in_one_sentence(words: str, tmp_path: Path) -> None:
    composed = compose([*words.split(), "data=file", f"data.path={written(tmp_path / 'a.jsonl', pairs(3))}"])
    with pytest.raises(ConfigError) as caught:
        build_checked_source(composed)
    assert UNREAD[words] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_adapter_reference_needs_an_adapter(run: Any) -> None:
    with pytest.raises(ConfigError, match=r"stage\.reference_mode=adapter is not possible: this method has no adapter; take"):
        run("run", "stage=dpo", "method=full", "stage.reference_mode=adapter")


