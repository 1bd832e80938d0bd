"""The time of a run by earlier runs like it, or by its arithmetic."""

from __future__ import annotations

import dataclasses
import json
import socket
from pathlib import Path

import pytest
from tests.plan.facts import build_facts

from fulgurite.board.worker.estimate import SpeedBook, TimeEstimate, describe_duration, estimate_time
from fulgurite.config.compose import compose
from fulgurite.config.schema import walk_settings
from fulgurite.language.current import use_language
from fulgurite.plan.context import DataFacts, Machine, PlanFacts, Weights
from fulgurite.plan.operations import guess_timing
from fulgurite.run.folder import write_run


def write_earlier(folder: Path, words: list[str], speed: float, host: str = "") -> None:
    folder.mkdir(parents=True)
    write_run(folder, compose(words))
    (folder / "status.json").write_text(json.dumps({"state": "finished", "host": host or socket.gethostname()}))
    rows = [{"step": n, "train/tokens_per_second": speed * (0.1 if n < 3 else 1)} for n in range(1, 8)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_speed_is_that_of_runs_of_the_same_stage_method_and_model(tmp_path: Path) -> None:
    write_earlier(tmp_path / "a", ["model=tiny", "optim.lr=1e-4"], 1000)
    write_earlier(tmp_path / "b", ["model=tiny", "method=full"], 7)
    write_earlier(tmp_path / "c", ["model=tiny"], 9, host="elsewhere")
    write_earlier(tmp_path / "2026-01-01" / "d", ["model=tiny"], 3000)
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "provenance.json").write_text("{")
    def find(*words: str) -> float | None:
        composed = compose(["model=tiny", *words])
        values = {knob.path: value for knob, value in walk_settings(composed.run)}
        return SpeedBook([tmp_path, tmp_path / "none"]).find(composed.choices, values)

    assert (find(), find("method=full"), find("method=oft")) == (2000, 7, None)


def refuse() -> float:
    raise AssertionError("nothing is measured if earlier runs are known")


def test_time_is_tokens_by_speed(tmp_path: Path) -> None:
    run = compose(["model=tiny", "trainer.global_batch_size=4", "trainer.eval_every=5"]).run
    seen = PlanFacts(run, steps=10, data=DataFacts(rows=40, tokens=4000, val_rows=6))
    assert estimate_time(seen, None, lambda: 0.0) == TimeEstimate()
    # 10 steps of 4 examples of 100 tokens; two evaluations of 6 examples at a third of the cost
    assert estimate_time(seen, 100.0, refuse) == TimeEstimate(pytest.approx(40 + 2 * 6 / 3), "runs")


def test_time_without_earlier_runs_is_that_of_the_arithmetic() -> None:
    facts = build_facts(steps=10, data=DataFacts(rows=40, tokens=4000, label_tokens=2000))
    timing = guess_timing(facts, 1e11)
    assert timing is not None
    found = estimate_time(facts, None, lambda: 1e11)
    assert found == TimeEstimate(sum(timing.estimate_seconds(facts).values()), "arithmetic")


def test_unknown_time_has_its_reason() -> None:
    facts = build_facts(steps=10, data=DataFacts(rows=40, tokens=4000, label_tokens=2000))
    on_gpu = dataclasses.replace(facts, machine=Machine("cuda"))
    assert estimate_time(on_gpu, None, refuse) == TimeEstimate(None, "device")
    prompts = build_facts("stage=grpo", "data=guide_prompts", data=facts.data)
    # earlier runs have read their own answers, not the prompts of the data
    assert estimate_time(prompts, 100.0, refuse) == TimeEstimate(None, "rollouts")
    experts = dataclasses.replace(facts.model, tensors=[Weights("experts", (4, 32, 64), True, "mlp")])
    routed = dataclasses.replace(facts, model=experts)
    assert estimate_time(routed, None, lambda: 1e11) == TimeEstimate(None, "experts")
    assert estimate_time(routed, 100.0, refuse).source == "runs"


@pytest.mark.parametrize(("seconds", "english", "chinese"), [
    (0.4, "5 seconds", "5 秒"), (38, "40 seconds", "40 秒"), (70, "1 minute", "1 分钟"),
    (299, "5 minutes", "5 分钟"), (9000, "2.5 hours", "2.5 小时"), (5 * 86400, "5 days", "5 天"),
])
def test_duration_is_rounded(seconds: float, english: str, chinese: str) -> None:
    assert str(describe_duration(seconds)) == english
    with use_language("zh"):
        assert str(describe_duration(seconds)) == chinese
