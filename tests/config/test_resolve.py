"""A run is resolved once: its config is frozen, and its decisions are data whose sentences nobody reads back."""

from __future__ import annotations

from pathlib import Path

import pytest

from fulgurite.config.compose import compose
from fulgurite.config.decision import Decision, Kind
from fulgurite.config.facts import Facts
from fulgurite.config.hydra_app import hydra_main
from fulgurite.config.provenance import Composed
from fulgurite.config.resolve import (
    MICRO_BATCH,
    decide,
    fill,
    halve,
    list_adopted,
    put_in_folder,
    replace_parts,
)
from fulgurite.language.message import UserMessage


def test_each_step_makes_another_run_and_leaves_the_first(tmp_path: Path) -> None:
    first = compose(["model=tiny", "trainer.micro_batch_size=4"])
    before = first.dump_config()
    half = halve(first, 7)
    assert half.run.trainer.micro_batch_size == 2
    assert half.provenance[MICRO_BATCH].kind is Kind.halved
    assert half.provenance[MICRO_BATCH].reason.startswith("halved from 4, which was out of memory at step 7")
    placed = put_in_folder(first, tmp_path)
    assert placed.run.run_dir == str(tmp_path)
    assert placed.provenance["run_dir"] == first.provenance["run_dir"]
    assert replace_parts(first, logger={}).run.logger == {}
    assert decide(first, Decision("seed", 3, Kind.derived, UserMessage("stage, method and model"))).run.seed == 3
    filled = fill(fill(first, Facts(percentile_99=60, rows=50, model_length=64), "data"), Facts(total_steps=9), "steps")
    assert filled.run.data.max_length == 64
    assert first.run.data.max_length is None
    assert first.dump_config() == before


@pytest.mark.parametrize(("then", "words", "taken"), [
    (Kind.halved, ["trainer.micro_batch_size=8"], True),
    (Kind.confirmed, ["trainer.micro_batch_size=8"], False),
    (Kind.fitted, [], True),
    (Kind.command_line, [], False),
    (Kind.halved, ["resume.allow=[trainer.micro_batch_size]"], False),
])
def test_what_a_resumed_run_takes_over(then: Kind, words: list[str], taken: bool) -> None:
    composed = compose(["model=tiny", *words])
    facts = Facts(percentile_99=60, rows=50, model_length=64, total_steps=9)
    composed = fill(fill(composed, facts, "data"), facts, "steps")
    now = composed.provenance.get(MICRO_BATCH)
    stored = Decision(MICRO_BATCH, 2, then, UserMessage("any"))
    found = list_adopted(now, {MICRO_BATCH: stored}, composed.run.resume.allow)
    assert (found == [stored]) is taken
    assert (decide(composed, *found).run.trainer.micro_batch_size == 2) is taken
    assert list_adopted(now, {}, []) == []


def test_facts_fill_empty_parameters() -> None:
    composed = compose(["scheduler.warmup_ratio=0.03"])
    facts = Facts(percentile_99=130, model_length=2048, rows=100, total_steps=70)
    composed = fill(composed, facts, "data")
    composed = fill(composed, facts, "steps")
    assert composed.run.data.max_length == 192  # 130 rounded up to a multiple of 64
    assert composed.run.scheduler.warmup_steps == 3  # ceil(0.03 x 70)
    assert composed.run.trainer.micro_batch_size == 5  # 1024 // 192
    whole = compose(["method=full"])
    whole = fill(whole, facts, "data")
    whole = fill(whole, facts, "steps")
    assert whole.run.trainer.micro_batch_size == 2  # 512 // 192
    assert "99th percentile of the data, 130 tokens" in composed.provenance["data.max_length"].reason


@pytest.mark.parametrize(
    ("words", "rows", "size"),
    [("method=lora", 5000, 16), ("method=lora", 400, 8), ("method=full", 10_000, 64), ("method=full", 2000, 16),
        ("stage=pt", 5000, 8)],
)
def test_a_small_data_set_gets_smaller_batches(words: str, rows: int, size: int) -> None:
    composed = compose(words.split())
    composed = fill(composed, Facts(percentile_99=100, model_length=2048, rows=rows), "data")
    assert composed.run.trainer.global_batch_size == size


def test_the_runs_of_a_search_or_a_multirun_are_one_group_of_each_tracker_unless_it_is_set(tmp_path: Path) -> None:
    seen: list[dict[str, str | None]] = []

    def job(composed: Composed) -> int:
        seen.append({name: getattr(config, "group", None) for name, config in composed.run.logger.items()})
        return 0

    trackers = ["model=tiny", "logger=[wandb,trackio,csv]", "logger.trackio.group=mine"]
    assert hydra_main(job, [*trackers, "seed=1,2", f"run_dir={tmp_path}/seeds"], ["--multirun"]) == 0
    assert seen == [{"wandb": "seeds", "trackio": "mine", "csv": None}] * 2
    trial = compose([*trackers, "sweep.study=rates", "sweep.trial=3", f"run_dir={tmp_path}/3"])
    assert trial.run.logger["wandb"].group == "rates"
    assert trial.provenance["logger.wandb.group"].reason == "the study of the search"
    assert compose(trackers).run.logger["wandb"].group is None
