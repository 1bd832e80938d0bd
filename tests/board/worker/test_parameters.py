"""Rows of parameters: what they decide, and what is known of each value."""

from __future__ import annotations

from typing import Any

from tests.plan.facts import build_facts

from fulgurite.board.draft import Draft
from fulgurite.board.worker.parameters import (
    ELSEWHERE,
    FIRST,
    GROUPS,
    RunState,
    choose_group,
    describe_empty,
    list_rows,
)
from fulgurite.config.facts import Facts
from fulgurite.config.run import list_all_knobs
from fulgurite.config.schema import Range
from fulgurite.plan.context import PlanFacts
from fulgurite.plan.rules import find_troubles

FACTS = Facts(percentile_99=500, rows=10_000, model_length=2048, total_steps=1000)


def build_rows(seen: PlanFacts, draft: Draft | None = None) -> dict[str, list[dict[str, Any]]]:
    return list_rows(RunState(seen.run, seen.origins, FACTS, find_troubles(seen), draft or Draft()))


def find_row(rows: dict[str, list[dict[str, Any]]], path: str) -> dict[str, Any]:
    return next(row for group in rows.values() for row in group if row["path"] == path)


def test_groups_of_a_default_run() -> None:
    """The groups of a LoRA run on conversations, read as a person would."""
    rows = build_rows(build_facts())
    assert {name: [row["path"] for row in found] for name, found in rows.items()} == {
        "result": [
            "optim.lr", "trainer.epochs", "trainer.global_batch_size", "method.rank", "method.alpha", "stage.loss",
            "data.max_length", "data.mask", "data.template", "scheduler.warmup_ratio", "method.targets",
            "stage.neftune_alpha", "method.dropout", "method.variant", "method.modules_to_save", "method.adapter_path",
            "optim.weight_decay", "scheduler.warmup_steps", "data.too_long", "data.val_fraction", "data.max_samples",
            "data.max_drop", "trainer.max_steps", "trainer.max_grad_norm", "trainer.early_stopping_patience",
        ],
        "cost": [
            "trainer.micro_batch_size", "trainer.gradient_checkpointing", "stage.max_new_tokens", "stage.prompts",
            "model.attention", "data.packing", "trainer.accelerator", "trainer.devices", "trainer.num_nodes",
            "trainer.eval_every", "trainer.save_every", "trainer.keep_checkpoints", "trainer.compile",
            "trainer.num_workers", "trainer.benchmark",
        ],
        "leave": [
            "stage.loss_chunk", "stage.router_aux_loss_coef", "method.init", "method.loraplus_lr_ratio",
            "method.rank_pattern", "method.alpha_pattern", "method.adapter_mode", "optim.weight_decay_on",
            "optim.betas", "optim.eps", "model.add_tokens", "data.enable_thinking", "data.template_arguments",
            "data.special_tokens", "data.shuffle", "trainer.clip_algorithm", "trainer.log_every", "trainer.profiler",
            "trainer.detect_anomaly", "trainer.deterministic", "trainer.enable_model_summary", "launcher.requeue",
            "plan.allow", "monitor.ignore", "seed", "name", "run_dir",
        ],
    }


def test_tables_name_declared_parameters_whose_guess_is_wrong() -> None:
    knobs = {knob.path: knob for knob in list_all_knobs()}
    assert {*ELSEWHERE, *FIRST} <= set(knobs)
    assert set(ELSEWHERE.values()) <= set(GROUPS)
    assert {choose_group(knob) for knob in knobs.values()} == set(GROUPS)


def test_longer_answers_decide_the_result_only_if_they_are_learned_from() -> None:
    found = {k.option: choose_group(k) for k in list_all_knobs() if k.path == "stage.max_new_tokens"}
    assert (found["sft"], found["grpo"]) == ("cost", "result")


def test_row_has_the_value_its_reason_and_the_warning_about_it() -> None:
    draft = Draft({}, {"optim.lr": "5e-5"})
    rows = build_rows(build_facts("optim.lr=5e-5"), draft)
    row = find_row(rows, "optim.lr")
    assert (row["value"], row["text"], row["origin"]) == (5e-5, "5e-5", "yours")
    assert (row["kind"], row["log"]) == ("number", True)
    assert row["warning"].startswith("optim.lr=5e-05 is low for method=lora")
    assert row["derived"] == find_row(build_rows(build_facts()), "optim.lr")["value"]
    assert row["legal"] == {"low": 0, "high": 1, "open_low": True, "open_high": False}
    assert set(row["usual"]) == {"low", "high", "open_low", "open_high"}
    untouched = find_row(build_rows(build_facts()), "optim.lr")
    assert (untouched["origin"], untouched["warning"]) == ("derived", "")
    assert untouched["reason"]


def test_value_of_a_preset_names_it() -> None:
    row = find_row(build_rows(build_facts("method=dora")), "method.variant")
    assert (row["origin"], row["reason"]) == ("preset", "conf/method/dora.yaml")
    assert row["choices"] == ["plain", "rslora", "dora"]


def test_parameters_that_the_page_may_not_set_have_no_row() -> None:
    seen = build_facts("model=hf", "model.path=a/b")
    paths = {row["path"] for rows in build_rows(seen).values() for row in rows}
    assert "model.path" in paths
    assert not paths & {"model.trust_remote_code", "model.revision", "plugins", "resume.run", "sweep.trials"}
    state = RunState(seen.run, seen.origins, FACTS, [], Draft(adds={"sweep": "sft_lora"}), allow_code=True)
    allowed = {row["path"] for rows in list_rows(state).values() for row in rows}
    assert {"model.trust_remote_code", "sweep.trials"} <= allowed


def test_empty_values_and_ranges_are_described() -> None:
    rows = build_rows(build_facts())
    assert find_row(rows, "trainer.max_steps")["empty"] == "no limit; trainer.epochs decides"
    assert find_row(rows, "trainer.max_grad_norm")["empty"] is None
    assert find_row(rows, "trainer.max_steps")["derived"] is None
    assert find_row(rows, "seed")["usual"] == {"values": [1, 2, 3]}
    assert Range(1, 2).has(1)
    assert describe_empty(next(k for k in list_all_knobs() if k.path == "seed")) is None
