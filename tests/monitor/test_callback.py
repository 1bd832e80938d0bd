"""The callback that gives the rules their numbers and reports what they find."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.callback.toy_stage import ToyStage, fit

from fulgurite.errors import TrainingFailed
from fulgurite.monitor.callback import MonitorCallback
from fulgurite.monitor.history import About
from fulgurite.monitor.reporter import Reporter
from fulgurite.monitor.update_ratio import UpdateRatio


def build_callback(folder: Path, **more: Any) -> MonitorCallback:
    """Builds the callback with a clock that is always 0 unless one is given: a busy machine is no finding."""
    return MonitorCallback(Reporter(folder / "watch.jsonl"), About("sft", total=99), **{"clock": float} | more)


def read_findings(folder: Path) -> list[dict[str, Any]]:
    path = folder / "watch.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Clipped(ToyStage):
    """Every step is clipped, at a norm of 250."""

    def configure_gradient_clipping(self, *rest: Any, **more: Any) -> None:
        super().configure_gradient_clipping(*rest, **more)
        self.step_record |= {"train/clipped": 1.0, "train/grad_norm": 250.0}


class Tables:
    """A tracker that keeps its tables of text."""

    save_dir, name, version = None, "tables", "0"

    def __init__(self) -> None:
        self.got: list[tuple[str, list[str], list[list[str]], int]] = []

    def log_text(self, key: str, columns: list[str], data: list[list[str]], step: int) -> None:
        self.got.append((key, columns, data, step))

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


def test_finding_is_printed_once_written_and_sent_to_the_trackers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = Tables()
    fit([build_callback(tmp_path)], steps=60, micro=1, stage=Clipped(), loggers=[tracker], folder=tmp_path)
    printed = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in printed] == [
        "warning (norm-high, step 20)", "warning (clip-share, step 50)",
    ]
    rows = read_findings(tmp_path)
    assert [(row["step"], row["rule"], row["severity"]) for row in rows] == [
        (20, "norm-high", "warning"), (50, "clip-share", "warning"),
    ]
    assert rows[1]["values"] == {"share": 1.0, "steps": 50, "median_norm": 250.0, "limit": 1.0}
    assert printed[1] == f"warning (clip-share, step 50): {rows[1]['sentence']} {rows[1]['remedy']}"
    assert [(key, len(data), step) for key, _, data, step in tracker.got] == [("watch", 1, 20), ("watch", 2, 50)]
    assert tracker.got[1][1] == ["step", "rule", "severity", "sentence", "remedy"]
    assert tracker.got[1][2][1][:3] == ["50", "clip-share", "warning"]


def test_ignored_rule_reports_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    callback = build_callback(tmp_path, quiet=["norm-high", "clip-share"])
    fit([callback], steps=60, micro=1, stage=Clipped(), folder=tmp_path)
    assert capsys.readouterr().err == ""
    assert not (tmp_path / "watch.jsonl").exists()


class Nothing(ToyStage):
    """Steps without a label."""

    def configure_gradient_clipping(self, *rest: Any, **more: Any) -> None:
        super().configure_gradient_clipping(*rest, **more)
        self.tokens_seen = 0


def test_rule_that_stops_the_run_raises_after_its_finding_is_written(tmp_path: Path) -> None:
    sentence = r"^Step 1: The step has no label token .* To continue anyway: monitor\.ignore=\[labels-empty\]\.$"
    with pytest.raises(TrainingFailed, match=sentence):
        fit([build_callback(tmp_path)], stage=Nothing(), folder=tmp_path)
    rows = read_findings(tmp_path)
    assert [(row["step"], row["rule"], row["severity"]) for row in rows] == [(1, "labels-empty", "stop")]
    assert TrainingFailed.exit_status == 3


def test_state_has_the_whole_history_and_nothing_of_the_clock(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one = build_callback(tmp_path / "one")
    fit([one], steps=30, micro=2, eval_every=10, folder=tmp_path)
    two = build_callback(tmp_path / "two", clock=iter(range(10**6)).__next__)  # type: ignore[arg-type]
    fit([two], steps=30, micro=2, eval_every=10, folder=tmp_path)
    assert json.dumps(one.state_dict()) == json.dumps(two.state_dict())
    again = build_callback(tmp_path / "one")
    again.load_state_dict(json.loads(json.dumps(one.state_dict())))
    assert again.seen.history == one.seen.history
    assert [e.step for e in again.seen.history.evaluations] == [10, 20, 30]
    assert again.seen.history.last["labels"] == 6


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Slow(ToyStage):
    """A micro-batch computes 1 s; `clock` moves by `waits` while the next is fetched."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        self.clock.now += 1
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.clock.now += 1000
        super().validation_step(batch, batch_idx)


@pytest.mark.parametrize(("waits", "expected"), [(1.5, [(21, "data-waits")]), (0.5, [])])
def test_waiting_is_measured_apart_from_computing_and_evaluating(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: float, expected: list[tuple[int, str]]
) -> None:
    clock = Clock()
    stage = Slow(clock)

    def wait(batch: torch.Tensor, *rest: Any) -> torch.Tensor:
        clock.now += waits
        return batch

    monkeypatch.setattr(stage, "transfer_batch_to_device", wait)
    callback = build_callback(tmp_path, clock=clock)
    fit([callback], steps=25, micro=2, eval_every=5, stage=stage, folder=tmp_path)
    assert [(row["step"], row["rule"]) for row in read_findings(tmp_path)] == expected
    assert callback.seen.computed == 20 * 2 * 1.0
    # 20 steps of two fetches; the first after each of the evaluations at 5, 10, 15 and 20 is not counted
    assert callback.seen.waited == pytest.approx(waits * (40 - 4))


def test_monitoring_does_not_change_the_weights(tmp_path: Path) -> None:
    plain = fit([], folder=tmp_path)
    looked = fit([UpdateRatio(), build_callback(tmp_path)], folder=tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), looked.parameters(), strict=True))


def test_checkpoints_keep_the_key_of_the_callback() -> None:
    """The name that earlier checkpoints have: another one would lose their history on resuming."""
    assert MonitorCallback.state_key == "Watch"


def test_samples_are_judged_at_the_end_of_the_run(tmp_path: Path) -> None:
    callback = build_callback(tmp_path)
    callback.seen.about.max_new_tokens, callback.seen.about.answer_tokens = 64, 30
    rows = [
        {"step": step, "prompt": str(n), "answer": f"same {n}", "tokens": 2, "stopped": True}
        for step in (0, 99) for n in range(5)
    ]
    callback._samples = SimpleNamespace(rows=rows)
    fit([callback], steps=99, micro=1, folder=tmp_path)
    assert [(row["step"], row["rule"]) for row in read_findings(tmp_path)] == [(99, "before-after")]
